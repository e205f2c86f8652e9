// The wall of people: a cover, a name and a count each; several can be put together, named or hidden.

import { html, useCallback, useEffect, useMemo, useState } from "../html.js";
import { learn } from "../people.js";
import { address, go } from "../router.js";
import { cropUrl, mayWrite, ofTenant } from "../session.js";
import { words } from "../words.js";
import { Icon } from "../parts/icons.js";
import { Listed, useList } from "../parts/list.js";
import { PeopleBar } from "../parts/people_bar.js";
import { Picture } from "../parts/picture.js";
import { Selection } from "../parts/selection.js";
import { Empty } from "../parts/states.js";
import { Wall } from "../parts/wall.js";

const TYPING_MS = 180;
const SHOWN = {
  all: {}, named: { labelled: true }, unnamed: { labelled: false }, hidden: { hidden: true },
};

export function Page({ q = "", show = "all", order = "faces" }) {
  const shown = SHOWN[show] ?? SHOWN.all;
  const query = { ...shown, order: q ? undefined : order, prefix: q || undefined };
  const list = useList(ofTenant("/people"), query, [q, show, order]);
  const more = useCallback(() => list.more(), [list]);
  const items = list.items.value;
  const [isSelecting, setSelecting] = useState(false);
  const selection = useMemo(() => new Selection(), []);
  useEffect(() => learn(...items), [items]);
  const set = (fields) => go("people", { q, show, order, ...fields }, { replace: true });
  const chosen = isSelecting ? items.filter((each) => selection.has(each.id)) : [];
  const end = () => {
    selection.clear();
    setSelecting(false);
  };
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
        ${mayWrite.value && html`
          <button class="button select-people" aria-pressed=${isSelecting} title=${words.people.selectHint} onClick=${() => (isSelecting ? end() : setSelecting(true))}>
            <${Icon} name="check" /><span>${isSelecting ? words.people.endSelecting : words.people.select}</span></button>`}
      </div>
    </header>
    <${Listed} list=${list} skeleton=${{ count: 24, className: "person-tile" }}
      empty=${html`<${Nobody} isFiltered=${Boolean(q) || show !== "all"} />`}>
      ${(people) => html`
        <p class="unseen" role="status">${list.isComplete.value ? words.people.count(people.length) : ""}</p>
        <${Wall} items=${people} label=${words.pages.people} more=${more} min=${150} gap=${16} extra=${46}
          selection=${isSelecting ? selection : null} open=${isSelecting ? (each) => go("person", { id: each.id }) : null}
          render=${(each, attributes) => html`<${Cover} person=${each} attributes=${attributes} isSelected=${isSelecting && selection.has(each.id)} />`} />`}
    <//>
    ${chosen.length > 0 && html`<${PeopleBar} people=${chosen} done=${end} clear=${() => selection.clear()} />`}`;
}

// A link, or, while people are selected, what stands in an option of the list.
function Cover({ person, attributes = null, isSelected }) {
  const Tag = attributes ? "a" : "span";
  const link = attributes && { href: address("person", { id: person.id }), ...attributes };
  return html`
    <${Tag} class=${`person-card ${person.hidden ? "is-hidden" : ""} ${isSelected ? "selected" : ""}`} ...${link}>
      <${Picture} src=${person.cover_face_id && cropUrl(person.cover_face_id)} />
      ${isSelected && html`<span class="tick"><${Icon} name="check" size=${16} /></span>`}
      <span class=${`person-name ${person.label ? "" : "unnamed"}`}>${person.label ?? words.noName}</span>
      <span class="person-count">${words.faces(person.face_count)}</span>
    <//>`;
}

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
