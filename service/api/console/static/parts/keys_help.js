// The keys of the review page, each of which can be changed.

import { html, useState } from "../html.js";
import { ACTIONS, assign, restore, shortcuts } from "../shortcuts.js";
import { words } from "../words.js";
import { DialogHead, show } from "./dialog.js";

export const showKeys = () => show((close) => html`<${Keys} close=${close} />`);

function Keys({ close }) {
  const [waiting, wait] = useState(null);
  const press = (event) => {
    if (!waiting || event.key === "Tab") return;
    event.preventDefault();
    event.stopPropagation();
    if (event.key.length === 1) assign(waiting, event.key.toLowerCase());
    wait(null);
  };
  return html`
    <${DialogHead} title=${words.review.keys} close=${close} />
    <p class="muted">${words.review.keysText}</p>
    <dl class="keys" onKeyDown=${press}>
      ${ACTIONS.map((action) => html`
        <dt key=${`${action} text`}>${words.review.actions[action]}</dt>
        <dd key=${action}><button class="button small key" aria-label=${words.review.changeKey(words.review.actions[action], shortcuts.value[action])} onClick=${() => wait(action)}>
          ${waiting === action ? words.review.pressKey : html`<kbd>${shortcuts.value[action]}</kbd>`}</button></dd>`)}
    </dl>
    <footer class="dialog-foot"><button class="button" onClick=${restore}>${words.review.restoreKeys}</button>
      <button class="button primary" data-first onClick=${() => close(null)}>${words.close}</button></footer>`;
}
