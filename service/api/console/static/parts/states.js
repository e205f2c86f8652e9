// What a page shows in place of its content: nothing yet, a failure, no permission.

import { html } from "../html.js";
import { words } from "../words.js";
import { Icon } from "./icons.js";

// isPage: it stands for the whole page, and so has its heading.
export const Empty = ({ icon, title, text, children, isPage = false }) => html`
  <div class="state">
    <span class="state-icon"><${Icon} name=${icon} size=${32} /></span>
    <${isPage ? "h1" : "h2"}>${title}<//>
    ${text && html`<p>${text}</p>`}
    <div class="row">${children}</div>
  </div>`;

export const Failure = ({ problem, retry, isPage = false }) => html`
  <div class="state" role="alert">
    <span class="state-icon wrong">
      <${Icon} name=${problem.isOffline ? "offline" : problem.status === 403 ? "lock" : "warning"} size=${32} />
    </span>
    <${isPage ? "h1" : "h2"}>${words.failureTitle(problem)}<//>
    <p>${words.problem(problem, false)}</p>
    ${retry && problem.status !== 403 && html`
      <button class="button" onClick=${retry}>${words.tryAgain}</button>`}
  </div>`;

// Boxes of the size of what comes.
export const Skeletons = ({ count = 12, className = "tile" }) => html`
  <div class=${`skeletons ${className}s`} aria-hidden="true">
    ${Array.from({ length: count }, (_, at) => html`<span key=${at} class=${`skeleton ${className}`} />`)}
  </div>`;

export const Loading = (props) => html`
  <div><span class="unseen" role="status">${words.loading}</span><${Skeletons} ...${props} /></div>`;
