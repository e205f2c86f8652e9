// What can be done with the people that are selected on the wall.

import { attempt, editPerson, hideAll, mergeAll } from "../changes.js";
import { html, useState } from "../html.js";
import { cropUrl } from "../session.js";
import { words } from "../words.js";
import { DialogHead, show } from "./dialog.js";
import { Icon } from "./icons.js";
import { Picture } from "./picture.js";

// done: called after a change; clear: selects nobody.
export function PeopleBar({ people, done, clear }) {
  const areHidden = people.every((each) => each.hidden);
  const merge = async () => {
    const chosen = await show((close) => html`<${Together} people=${people} close=${close} />`);
    if (!chosen) return;
    const act = people.length > 1 ? () => mergeAll(people, chosen.kept, chosen.label)
      : () => editPerson(people[0], { label: chosen.label }, words.person.renamed);
    if (await attempt(act)) done();
  };
  const hide = async () => {
    if (await attempt(() => hideAll(people, !areHidden))) done();
  };
  return html`
    <div class="selection-bar" role="toolbar" aria-label=${words.people.selection}>
      <strong aria-live="polite">${words.face.selected(people.length)}</strong>
      <button class="button primary" onClick=${merge}>
        <${Icon} name=${people.length > 1 ? "merge" : "edit"} />${people.length > 1 ? words.people.merge : words.people.name}</button>
      <button class="button" onClick=${hide}><${Icon} name=${areHidden ? "show" : "hide"} />${areHidden ? words.person.unhide : words.person.hide}</button>
      <button class="button quiet square" aria-label=${words.face.clear} onClick=${clear}><${Icon} name="close" /></button>
    </div>`;
}

// Whose id stays: the one with the name that is given, else one with a name, else the one with most faces.
function keptOf(people, label) {
  const standing = (each) => [each.label === label && label !== null, Boolean(each.label), each.face_count];
  return [...people].sort((one, other) => {
    const [a, b] = [standing(one), standing(other)];
    const at = a.findIndex((value, place) => value !== b[place]);
    return at < 0 ? 0 : b[at] - a[at];
  })[0];
}

// People shown beside each other, and the name that they get as one person.
function Together({ people, close }) {
  const names = [...new Set(people.map((each) => each.label).filter(Boolean))];
  const [name, setName] = useState(names[0] ?? "");
  const submit = (event) => {
    event.preventDefault();
    const label = name.trim() || null;
    close({ label, kept: keptOf(people, label) });
  };
  return html`
    <${DialogHead} title=${people.length > 1 ? words.people.together(people.length) : words.people.name} close=${close} />
    <form onSubmit=${submit} class="form">
      <ul class="together">
        ${people.map((each) => html`<li key=${each.id} title=${each.label ?? words.noName}><${Picture} src=${each.cover_face_id && cropUrl(each.cover_face_id, 96)} alt=${each.label ?? words.noName} /></li>`)}
      </ul>
      ${names.length > 1 && html`
        <div class="filters" role="group" aria-label=${words.people.whichName}>
          ${names.map((each) => html`<button key=${each} type="button" class="chip" aria-pressed=${each === name} onClick=${() => setName(each)}>${each}</button>`)}
        </div>`}
      <label class="field">${words.person.name}
        <input class="input" data-first value=${name} maxLength="200" autocomplete="off" placeholder=${words.people.nameLater} onInput=${(event) => setName(event.target.value)} /></label>
      <footer class="dialog-foot"><button type="button" class="button" onClick=${() => close(null)}>${words.cancel}</button>
        <button class="button primary">${people.length > 1 ? words.people.mergeNow : words.people.nameNow}</button></footer>
    </form>`;
}
