// What surrounds every page: navigation, the tenant, the theme, messages, dialogs.

import { call } from "./api.js";
import { html, signal, useEffect } from "./html.js";
import { address, go, route } from "./router.js";
import { chooseTenant, mayAdminister, mayWrite, session, signOut, tenant } from "./session.js";
import { nextTheme, theme } from "./theme.js";
import { words } from "./words.js";
import { attempt } from "./changes.js";
import { Dialogs } from "./parts/dialog.js";
import { DropTarget } from "./parts/drop.js";
import { Icon } from "./parts/icons.js";
import { Toasts } from "./parts/toast_list.js";
import { count } from "./format.js";
import { isBeyondCount, openQuestions } from "./live.js";
import { uploads } from "./uploads.js";

const PAGES = [
  ["people", () => true], ["review", () => true], ["photos", () => true],
  ["search", () => true], ["upload", () => mayWrite.value], ["history", () => true],
  ["status", () => true], ["keys", () => mayAdminister.value],
];
const ABOVE = { person: "people", photo: "photos", copies: "photos" };
const PAGE = 500;
// Of a service with more, the address names the tenant: ?tenant=.
const MOST_TENANTS = 5000;

export const tenants = signal(null);
const isOnline = signal(navigator.onLine);
addEventListener("online", () => { isOnline.value = true; });
addEventListener("offline", () => { isOnline.value = false; });

export async function readTenants() {
  const found = [];
  let cursor;
  do {
    const page = await call("GET", "/v1/tenants", { query: { limit: PAGE, cursor } });
    found.push(...page.items);
    cursor = page.next ?? undefined;
  } while (cursor && found.length < MOST_TENANTS);
  tenants.value = found;
}

export function Frame({ children }) {
  useEffect(() => {
    attempt(readTenants);
  }, []);
  const here = ABOVE[route.value.page] ?? route.value.page;
  useEffect(() => {
    document.title = `${words.pages[here] ?? words.product} · ${words.product}`;
    document.querySelector(".nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [here]);
  return html`
    <a class="skip" href="#page">${words.skip}</a>
    <div class="frame">
      <aside class="rail">
        <a class="brand" href=${address("people")}>
          <img src="/console/static/icon.svg" alt="" width="28" height="28" /><span>${words.product}</span>
        </a>
        <${TenantChoice} />
        <nav class="nav" aria-label=${words.navigation}>
          ${PAGES.filter(([, isShown]) => isShown()).map(([name]) => html`
            <a key=${name} href=${address(name)} aria-current=${here === name ? "page" : undefined}>
              <${Icon} name=${name} /><span>${words.pages[name]}</span>
              <${Badge} name=${name} />
            </a>`)}
        </nav>
        <div class="rail-foot">
          <button class="button quiet" onClick=${nextTheme} title=${words.theme.change}>
            <${Icon} name=${theme.value} /><span>${words.theme[theme.value]}</span>
          </button>
          <button class="button quiet" onClick=${() => attempt(signOut)} title=${session.value.name ?? words.token}>
            <${Icon} name="out" /><span>${words.signOut}</span>
          </button>
        </div>
      </aside>
      <main id="page" tabIndex="-1">
        ${!isOnline.value && html`<p class="banner" role="status"><${Icon} name="offline" />${words.offline}</p>`}
        ${children}
      </main>
    </div>
    <${DropTarget} /><${Dialogs} /><${Toasts} />`;
}

// What goes on behind a page that is not open.
function Badge({ name }) {
  const { waiting, sending, held, failed } = uploads.counts.value;
  const number = name === "upload" ? waiting + sending + held || failed
    : name === "review" ? openQuestions.value ?? 0 : 0;
  if (!number) return null;
  const text = name === "review" && isBeyondCount(number) ? words.review.many(number - 1) : count(number);
  return html`<span class="badge" title=${name === "review" ? words.review.open(text) : words.upload.badge}>${text}</span>`;
}

function TenantChoice() {
  if (session.value.tenant_id !== null) {
    return html`<p class="tenant-name" title=${tenant.value}>${tenant.value}</p>`;
  }
  const known = tenants.value ?? [];
  const ids = known.map((each) => each.id);
  const choose = (event) => {
    // So that the way back leads to the tenant that was looked at.
    go(route.value.page, route.value.query, { replace: true });
    chooseTenant(event.target.value);
    go(ABOVE[route.value.page] ?? route.value.page);
  };
  return html`
    <label class="tenant-choice"><span class="unseen">${words.tenant}</span>
      <select class="input" value=${tenant.value ?? ""} onChange=${choose}>
        ${!tenant.value && html`<option value="" disabled>${words.chooseTenant}</option>`}
        ${tenant.value && !ids.includes(tenant.value) && html`<option value=${tenant.value}>${tenant.value}</option>`}
        ${ids.map((id) => html`<option key=${id} value=${id}>${id}</option>`)}
      </select>
    </label>`;
}
