// All photos of the tenant.

import { html } from "../html.js";
import { go } from "../router.js";
import { mayWrite, ofTenant } from "../session.js";
import { address } from "../router.js";
import { words } from "../words.js";
import { Icon } from "../parts/icons.js";
import { PhotoWall } from "../parts/photo_wall.js";

export function Page({ order = "created" }) {
  const choose = (event) => go("photos", { order: event.target.value }, { replace: true });
  return html`
    <header class="page-head">
      <h1>${words.pages.photos}</h1>
      <div class="tools">
        <label><span class="unseen">${words.photo.order}</span>
          <select class="input" value=${order} onChange=${choose}>
            ${Object.entries(words.photo.orders).map(([each, text]) => html`<option key=${each} value=${each}>${text}</option>`)}
          </select></label>
        ${mayWrite.value && html`<a class="button primary" href=${address("upload")}><${Icon} name="upload" />${words.pages.upload}</a>`}
      </div>
    </header>
    <${PhotoWall} path=${ofTenant("/images")} query=${{ order }} />`;
}
