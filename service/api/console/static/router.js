// The address bar: which page is open, and with which parameters.

import { batch, signal } from "./html.js";
import { chooseTenant, session, tenant } from "./session.js";

const ROOT = "/console";

function read() {
  const [, name = ""] = location.pathname.slice(ROOT.length).split("/");
  return { page: name || "people", query: Object.fromEntries(new URLSearchParams(location.search)) };
}

export const route = signal(read());

// The address of a page. The tenant is part of it where the key opens several.
export function address(page, query = {}) {
  const all = { ...query };
  if (session.value?.tenant_id === null && tenant.value) all.tenant = tenant.value;
  const given = Object.entries(all).filter(([, value]) => value !== undefined && value !== "");
  const text = new URLSearchParams(given).toString();
  return `${ROOT}/${page}${text ? `?${text}` : ""}`;
}

export function go(page, query = {}, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", address(page, query));
  arrive({ keepScroll: replace });
}

function arrive({ keepScroll }) {
  const before = route.value.page;
  batch(() => {
    route.value = read();
    // As the address has it: on the way back, another one than was chosen since.
    const asked = route.value.query.tenant;
    if (asked && session.value?.tenant_id === null && asked !== tenant.value) chooseTenant(asked);
  });
  if (!keepScroll) scrollTo(0, 0);
  // A screen reader and the keyboard go on where the new page begins.
  if (route.value.page !== before) document.getElementById("page")?.focus({ preventScroll: true });
}

addEventListener("popstate", () => arrive({ keepScroll: true }));

// Links within the console open without loading it again; all others are the browser's.
addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]:not([href^='#'])");
  const isPlain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey;
  if (!link || !isPlain || event.defaultPrevented || link.target || link.download) return;
  const url = new URL(link.href);
  if (url.origin !== location.origin || !url.pathname.startsWith(ROOT)) return;
  event.preventDefault();
  history.pushState(null, "", url);
  arrive({ keepScroll: false });
});
