// The wall of people: a cover, a name and a count each.

import { changed } from "../changes.js";
import { html, useCallback, useEffect, useState } from "../html.js";
import { learn } from "../people.js";
import { address, go } from "../router.js";
import { cropUrl, mayWrite, ofTenant } from "../session.js";
import { words } from "../words.js";
import { Listed, useList } from "../parts/list.js";
import { Picture } from "../parts/picture.js";
import { Empty } from "../parts/states.js";
import { Wall } from "../parts/wall.js";

const TYPING_MS = 180;
const SHOWN = {
  all: {}, named: { labelled: true }, unnamed: { labelled: false }, hidden: { hidden: true },
};

export function Page({ q = "", show = "all", order = "faces" }) {
  const shown = SHOWN[show] ?? SHOWN.all;
  const query = { ...shown, order: q ? undefined : order, prefix: q || undefined };
  const list = useList(ofTenant("/people"), query, [q, show, order, changed.value]);
  const more = useCallback(() => list.more(), [list]);
  const items = list.items.value;
  useEffect(() => learn(...items), [items]);
  const set = (fields) => go("people", { q, show, order, ...fields }, { replace: true });
  return html`
    <header class="page-head">
      <h1>${words.pages.people}</h1>
      <div class="tools">
        <${NameSearch} value=${q} change=${(text) => set({ q: text })} />
        <label><span class="unseen">${words.people.show}</span>
          <select class="input" value=${show} onChange=${(event) => set({ show: event.target.value })}>
            ${Object.keys(SHOWN).map((each) => html`<option key=${each} value=${each}>${words.people.shown[each]}</option>`)}
          </select></label>
        <label><span class="unseen">${words.people.order}</span>
          <select class="input" value=${order} disabled=${Boolean(q)} onChange=${(event) => set({ order: event.target.value })}>
            ${Object.entries(words.people.orders).filter(([each]) => each !== "label" || show !== "unnamed")
              .map(([each, text]) => html`<option key=${each} value=${each}>${text}</option>`)}
          </select></label>
      </div>
    </header>
    <${Listed} list=${list} skeleton=${{ count: 24, className: "person-tile" }}
      empty=${html`<${Nobody} isFiltered=${Boolean(q) || show !== "all"} />`}>
      ${(people) => html`
        <p class="unseen" role="status">${list.isComplete.value ? words.people.count(people.length) : ""}</p>
        <${Wall} items=${people} label=${words.pages.people} more=${more} min=${150} gap=${16} extra=${46}
          render=${(each, attributes) => html`<${Cover} person=${each} attributes=${attributes} />`} />`}
    <//>`;
}

const Cover = ({ person, attributes }) => html`
  <a class=${`person-card ${person.hidden ? "is-hidden" : ""}`} href=${address("person", { id: person.id })} ...${attributes}>
    <${Picture} src=${person.cover_face_id && cropUrl(person.cover_face_id)} />
    <span class=${`person-name ${person.label ? "" : "unnamed"}`}>${person.label ?? words.noName}</span>
    <span class="person-count">${words.faces(person.face_count)}</span>
  </a>`;

function NameSearch({ value, change }) {
  const [text, setText] = useState(value);
  useEffect(() => {
    if (text === value) return undefined;
    const timer = setTimeout(() => change(text), TYPING_MS);
    return () => clearTimeout(timer);
  }, [text]);
  return html`
    <label class="grow"><span class="unseen">${words.people.search}</span>
      <input class="input" type="search" placeholder=${words.people.search} value=${text}
        onInput=${(event) => setText(event.target.value)} /></label>`;
}

const Nobody = ({ isFiltered }) => isFiltered
  ? html`<${Empty} icon="search" title=${words.people.noneFound} text=${words.people.noneFoundText} />`
  : html`<${Empty} icon="people" title=${words.people.none} text=${words.people.noneText}>
      ${mayWrite.value && html`<a class="button primary" href=${address("upload")}>${words.pages.upload}</a>`}<//>`;
