// What happened in the tenant, by kind, with the way back.

import { html } from "../html.js";
import { go } from "../router.js";
import { words } from "../words.js";
import { HistoryList } from "../parts/history_list.js";

export function Page({ kind = "" }) {
  const choose = (event) => go("history", { kind: event.target.value }, { replace: true });
  return html`
    <header class="page-head">
      <h1>${words.pages.history}</h1>
      <div class="tools">
        <label><span class="unseen">${words.history.filter}</span>
          <select class="input" value=${kind} onChange=${choose}>
            <option value="">${words.history.all}</option>
            ${Object.entries(words.history.kinds).map(([each, text]) => html`<option key=${each} value=${each}>${text}</option>`)}
          </select></label>
      </div>
    </header>
    <${HistoryList} query=${{ kind: kind || undefined }} />`;
}
