// All photos of the tenant.

import { html } from "../html.js";
import { address, go } from "../router.js";
import { mayWrite, ofTenant } from "../session.js";
import { words } from "../words.js";
import { Icon } from "../parts/icons.js";
import { PhotoOrder, PhotoWall } from "../parts/photo_wall.js";

export function Page({ order = "created" }) {
  return html`
    <header class="page-head">
      <h1>${words.pages.photos}</h1>
      <div class="tools">
        <${PhotoOrder} value=${order} change=${(value) => go("photos", { order: value }, { replace: true })} />
        ${mayWrite.value && html`<a class="button primary" href=${address("upload")}><${Icon} name="upload" />${words.pages.upload}</a>`}
      </div>
    </header>
    <${PhotoWall} path=${ofTenant("/images")} query=${{ order }} />`;
}
