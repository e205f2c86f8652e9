// What happened, newest first, each change with the way back where it has one.

import { call } from "../api.js";
import { attempt, changed, undo } from "../changes.js";
import { day, time } from "../format.js";
import { html, useEffect, useRef } from "../html.js";
import { person } from "../people.js";
import { address } from "../router.js";
import { cropUrl, mayAdminister, mayWrite, ofTenant } from "../session.js";
import { tell } from "../toasts.js";
import { words } from "../words.js";
import { Icon } from "./icons.js";
import { Listed, useList } from "./list.js";
import { useLoad } from "./load.js";
import { Picture } from "./picture.js";
import { Empty } from "./states.js";

export function HistoryList({ query }) {
  const list = useList(ofTenant("/history"), query, [JSON.stringify(query)]);
  const { data: keys } = useLoad(
    async (signal) => (mayAdminister.value ? call("GET", "/v1/keys", { query: { limit: 500 }, signal }) : null), []);
  const names = new Map((keys?.items ?? []).map((each) => [each.id, each.name]));
  const takeBack = (change) => attempt(async () => {
    await undo([change.id]);
    changed.value += 1;
    tell(words.undone);
  });
  const empty = html`<${Empty} icon="history" title=${words.history.none} text=${words.history.noneText} />`;
  return html`
    <${Listed} list=${list} skeleton=${{ count: 10, className: "line-tile" }} empty=${empty}>
      ${(items) => html`
        <ol class="history">
          ${grouped(items).map(({ change, number }, at, all) => html`
            ${(at === 0 || day(all[at - 1].change.at) !== day(change.at)) && html`<li key=${`day ${change.id}`} class="history-day"><h2>${day(change.at)}</h2></li>`}
            <${Change} key=${change.id} change=${change} number=${number} names=${names} takeBack=${takeBack} />`)}
        </ol>
        <${End} list=${list} />`}
    <//>`;
}

function Change({ change, number, names, takeBack }) {
  const who = change.by_machine ? words.history.machine
    : change.key_id === null ? words.token : names.get(change.key_id) ?? change.key_id;
  return html`
    <li class=${`change ${change.undone_by ? "taken-back" : ""}`}>
      <time dateTime=${change.at}>${time(change.at)}</time>
      <span class="change-text">
        <span>${number > 1 ? words.history.stored(number) : words.history.kinds[change.kind] ?? change.kind}</span>
        ${number === 1 && html` <${Subject} subject=${change.subject} />`}
        ${change.undone_by && html` <span class="tag">${words.history.takenBack}</span>`}
      </span>
      <span class="muted">${who}</span>
      ${mayWrite.value && change.undoable
        ? html`<button class="button small" onClick=${() => takeBack(change)}><${Icon} name="undo" size=${16} />${words.undo}</button>`
        : html`<span />`}
    </li>`;
}

// A run of photos that one key stored within a minute is one entry, with their number.
function grouped(changes) {
  const groups = [];
  for (const change of changes) {
    const last = groups.at(-1);
    const isRun = last?.change.kind === "image.inserted" && change.kind === "image.inserted"
      && last.change.key_id === change.key_id && minute(last.change) === minute(change);
    if (isRun) last.number += 1;
    else groups.push({ change, number: 1 });
  }
  return groups;
}

const minute = (change) => change.at.slice(0, 16);

// The people and photos that a change is about, as links.
function Subject({ subject }) {
  const people = [...new Set([subject.person_id, subject.new_person_id, subject.from_person_id].filter(Boolean))];
  return html`
    ${people.map((id) => html`<${PersonLink} key=${id} id=${id} />`)}
    ${subject.image_id && html` <a href=${address("photo", { id: subject.image_id })}>${words.history.photo}</a>`}`;
}

function PersonLink({ id }) {
  const found = person(id).value;
  if (found === null) return null;
  if (found === undefined) return html`<span class="person-link"><span class="skeleton line" /></span>`;
  return html`<a class="person-link" href=${address("person", { id })}>
    ${found.cover_face_id && html`<${Picture} className="small" src=${cropUrl(found.cover_face_id, 96)} />`}
    <span>${found.label ?? words.noName}</span></a>`;
}

// Reads on when it comes into sight.
function End({ list }) {
  const ref = useRef();
  useEffect(() => {
    const watch = new IntersectionObserver(([entry]) => entry.isIntersecting && list.more(), { rootMargin: "600px" });
    watch.observe(ref.current);
    return () => watch.disconnect();
  }, [list, list.items.value]);
  return html`<div ref=${ref} class="end" />`;
}
