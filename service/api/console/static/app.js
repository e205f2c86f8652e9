// The console: signs in, then shows the page that the address names.

import { html, render, useEffect, useState } from "./html.js";
import { address, route } from "./router.js";
import { mayAdminister, resume, session, tenant } from "./session.js";
import { words } from "./words.js";
import { Frame, tenants } from "./frame.js";
import { outbox } from "./outbox.js";
import { Empty, Failure, Loading } from "./parts/states.js";
import { SignIn } from "./pages/sign_in.js";
// Listens from the start: answers that an earlier visit left behind are sent at once.
import "./reviews.js";
import "./theme.js";

// Each page is loaded when it is opened for the first time.
const PAGES = {
  people: () => import("./pages/people.js"),
  person: () => import("./pages/person.js"),
  review: () => import("./pages/review.js"),
  photos: () => import("./pages/photos.js"),
  photo: () => import("./pages/photo.js"),
  copies: () => import("./pages/copies.js"),
  search: () => import("./pages/search.js"),
  upload: () => import("./pages/upload.js"),
  history: () => import("./pages/history.js"),
  status: () => import("./pages/status.js"),
  keys: () => import("./pages/keys.js"),
};
const NEEDS_NO_TENANT = new Set(["status", "keys"]);

const loaded = {};

function Page({ name, query }) {
  const [, setLoaded] = useState(null);
  const [problem, setProblem] = useState(null);
  const load = () => {
    setProblem(null);
    PAGES[name]().then(
      (module) => {
        loaded[name] = module.Page;
        setLoaded(name);
      },
      () => setProblem({ isOffline: true, status: 0 }),
    );
  };
  useEffect(() => {
    if (!loaded[name]) load();
  }, [name]);
  if (problem && !loaded[name]) return html`<${Failure} isPage problem=${problem} retry=${load} />`;
  if (!loaded[name]) return html`<${Loading} />`;
  return html`<${loaded[name]} key=${`${name} ${tenant.value} ${query.id ?? ""}`} ...${query} />`;
}

function Console() {
  const [problem, setProblem] = useState(null);
  const start = () => {
    setProblem(null);
    resume().catch(setProblem);
  };
  useEffect(start, []);
  useEffect(() => {
    if (session.value) outbox.send();
  }, [session.value]);
  if (problem) return html`<main id="page" class="alone"><${Failure} isPage problem=${problem} retry=${start} /></main>`;
  if (session.value === undefined) return null;
  if (session.value === null) return html`<${SignIn} />`;
  const { page, query } = route.value;
  return html`<${Frame}>${content(page, query)}<//>`;
}

function content(page, query) {
  if (!PAGES[page]) {
    return html`<${Empty} isPage icon="question" title=${words.noPage.title} text=${words.noPage.text}>
      <a class="button primary" href=${address("people")}>${words.pages.people}</a><//>`;
  }
  if (!tenant.value && !NEEDS_NO_TENANT.has(page)) {
    const none = tenants.value?.length === 0;
    return html`<${Empty} isPage icon="people" title=${none ? words.noTenants.title : words.chooseTenant}
      text=${none ? words.noTenants.text : words.chooseTenantText}>
      ${none && mayAdminister.value && html`<a class="button primary" href=${address("keys")}>${words.keys.newTenant}</a>`}<//>`;
  }
  return html`<${Page} name=${page} query=${query} />`;
}

render(html`<${Console} />`, document.getElementById("app"));
