// The messages at the foot of the page.

import { html } from "../html.js";
import { dismiss, hold, toasts } from "../toasts.js";
import { words } from "../words.js";
import { Icon } from "./icons.js";

export const Toasts = () => html`
  <div class="toasts" role="region" aria-label=${words.messages}>
    <div role="status" aria-live="polite">
      ${toasts.value.map((each) => html`<${Toast} key=${each.id} ...${each} />`)}
    </div>
  </div>`;

function Toast({ id, text, kind, action }) {
  const keep = () => kind === "done" && hold(id, true);
  const release = () => kind === "done" && hold(id, false);
  const run = () => {
    dismiss(id);
    action.run();
  };
  return html`
    <div class=${`toast ${kind}`} onMouseEnter=${keep} onMouseLeave=${release} onFocusIn=${keep} onFocusOut=${release}>
      <${Icon} name=${kind === "done" ? "check" : "warning"} />
      <span>${text}</span>
      ${action && html`<button class="button small" onClick=${run}>${action.label}</button>`}
      <button class="button quiet square small" aria-label=${words.dismiss} onClick=${() => dismiss(id)}>
        <${Icon} name="close" size=${16} />
      </button>
    </div>`;
}
