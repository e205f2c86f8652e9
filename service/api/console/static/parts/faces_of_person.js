// The faces of a person, to be selected and put where they belong.

import { call } from "../api.js";
import { attempt, editPerson, moveFaces, splitPerson } from "../changes.js";
import { html, useCallback, useMemo, useState } from "../html.js";
import { go } from "../router.js";
import { cropUrl, mayWrite, ofTenant } from "../session.js";
import { words } from "../words.js";
import { Icon } from "./icons.js";
import { Listed, useList } from "./list.js";
import { choosePerson } from "./picker.js";
import { Picture } from "./picture.js";
import { Selection } from "./selection.js";
import { Empty } from "./states.js";
import { Wall } from "./wall.js";

const ORDERS = ["newest", "odd"];

export function FacesOfPerson({ person }) {
  const list = useList(ofTenant(`/people/${person.id}/faces`), {}, [person.id], 500);
  const selection = useMemo(() => new Selection(), [person.id]);
  const [order, setOrder] = useState("newest");
  const more = useCallback(() => list.more(), [list]);
  const items = list.items.value;
  // Farthest first: what the machine was least sure of is what a person looks at.
  const sorted = useMemo(() => order === "newest" ? items
    : [...items].sort((one, other) => (other.distance ?? -1) - (one.distance ?? -1)), [items, order]);
  const chosen = items.filter((each) => selection.has(each.id));

  const canWrite = mayWrite.value;
  const near = () => call("POST", ofTenant("/search"), { json: { face_id: chosen[0].id, limit: 12 } })
    .then((found) => found.matches);
  const move = async () => {
    const to = await choosePerson({ title: words.face.moveTo(chosen.length), near, without: [person.id] });
    if (!to) return;
    if (!to.id) await makeNew(to.label);
    else if (await attempt(() => moveFaces(chosen, to.id))) selection.clear();
  };
  const makeNew = async (label) => {
    const ids = chosen.map((each) => each.id);
    if (await attempt(() => splitPerson(person.id, ids, label ? { label } : {}))) selection.clear();
  };
  const takeOut = async () => {
    if (await attempt(() => moveFaces(chosen, null))) selection.clear();
  };
  const cover = () => attempt(() =>
    editPerson(person, { cover_face_id: chosen[0].id }, words.person.coverChosen));
  return html`
    <div class="tools-row">
      <p class="muted">${canWrite ? words.face.selectHint : ""}</p>
      <label class="row">${words.face.order}
        <select class="input" value=${order} onChange=${(event) => setOrder(event.target.value)}>
          ${ORDERS.map((each) => html`<option key=${each} value=${each}>${words.face.orders[each]}</option>`)}
        </select></label>
    </div>
    <${Listed} list=${list} skeleton=${{ count: 24, className: "face-tile" }}
      empty=${html`<${Empty} icon="face" title=${words.person.noFaces} text=${words.person.noFacesText} />`}>
      ${() => html`<${Wall} items=${sorted} label=${words.person.tabs.faces} more=${more} min=${120} gap=${8}
        selection=${canWrite ? selection : null} open=${(face) => go("photo", { id: face.image_id, face: face.id })}
        render=${(face, attributes) => html`<${Face} face=${face} person=${person} isSelected=${selection.has(face.id)} attributes=${attributes} />`} />`}
    <//>
    ${chosen.length > 0 && html`
      <div class="selection-bar" role="toolbar" aria-label=${words.face.selection}>
        <strong aria-live="polite">${words.face.selected(chosen.length)}</strong>
        <button class="button primary" onClick=${move}><${Icon} name="move" />${words.face.move}</button>
        <button class="button" onClick=${() => makeNew(null)}><${Icon} name="plus" />${words.face.newPerson}</button>
        <button class="button" onClick=${takeOut}><${Icon} name="no" />${words.face.not}</button>
        ${chosen.length === 1 && html`<button class="button square" title=${words.face.cover} aria-label=${words.face.cover} onClick=${cover}><${Icon} name="star" /></button>`}
        ${chosen.length === 1 && html`<button class="button square" title=${words.face.find} aria-label=${words.face.find} onClick=${() => go("search", { face: chosen[0].id })}><${Icon} name="search" /></button>`}
        ${chosen.length === 1 && html`<button class="button square" title=${words.face.photo} aria-label=${words.face.photo} onClick=${() => go("photo", { id: chosen[0].image_id, face: chosen[0].id })}><${Icon} name="photos" /></button>`}
        <button class="button quiet square" aria-label=${words.face.clear} onClick=${() => selection.clear()}><${Icon} name="close" /></button>
      </div>`}`;
}

function Face({ face, person, isSelected, attributes = {} }) {
  const Tag = attributes["data-at"] === undefined ? "span" : "button";
  return html`
    <${Tag} class=${`face-card ${isSelected ? "selected" : ""}`} title=${words.face.evidence(face)} ...${attributes}>
      <${Picture} src=${cropUrl(face.id, 192)} alt=${words.face.of(person.label)} />
      ${isSelected && html`<span class="tick"><${Icon} name="check" size=${16} /></span>`}
      ${person.cover_face_id === face.id && html`<span class="corner" title=${words.face.isCover}><${Icon} name="star" size=${14} /></span>`}
    <//>`;
}
