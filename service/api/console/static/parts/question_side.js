// One side of a question: a face, or the faces of a person, as large as there is room.

import { html, useLayoutEffect, useRef, useState } from "../html.js";
import { address } from "../router.js";
import { cropUrl } from "../session.js";
import { words } from "../words.js";
import { facesOf } from "./faces_read.js";
import { Icon } from "./icons.js";
import { Picture } from "./picture.js";
import { touchedCells, useRectangle } from "./rectangle.js";

const MOST = 12;
// Of a person whose faces are looked through: at a time.
const AT_ONCE = 100;
const ALL = Infinity;

const sizeOf = (number) => (number <= 2 ? 512 : number <= 4 ? 256 : 160);
const isChecked = (question, person) => question.kind === "new_person" && person === question.people[0];

// Loads what a question will show.
export function prefetch(question) {
  const load = (id, size) => {
    new Image().src = cropUrl(id, size);
  };
  if (question.face) load(question.face.id, 512);
  for (const person of question.people) {
    const found = facesOf(person, isChecked(question, person) ? ALL : MOST).faces;
    const stop = found.subscribe((faces) => {
      if (!faces) return;
      for (const each of faces.slice(0, MOST)) load(each.id, sizeOf(faces.length));
      queueMicrotask(() => stop());
    });
  }
}

// A face beside a person.
export const FaceSide = ({ face }) => html`
  <div class="side">
    <p class="side-title"><span>${words.review.thisFace}</span></p>
    <div class="side-faces one"><span class="side-face"><${Picture} isEager src=${cropUrl(face.id, 512)} alt=${words.face.of(null)} /></span></div>
  </div>`;

// The faces of a person. marks: a selection of those that are somebody else's, where they can be
// marked. isWhole: all of them can be looked through, a hundred at a time.
export function PersonSide({ person, marks = null, isWhole = false }) {
  const [from, setFrom] = useState(0);
  const found = facesOf(person, isWhole ? ALL : MOST);
  const all = found.faces.value;
  const number = Math.min(isWhole ? AT_ONCE : MOST, all?.length ?? person.face_count);
  const shown = all?.slice(from, from + AT_ONCE);
  const go = (to) => {
    setFrom(to);
    if (to + 2 * AT_ONCE > all.length) found.more();
  };
  const last = Math.min(from + AT_ONCE, all?.length ?? 0);
  return html`
    <div class="side">
      <p class="side-title">
        <a href=${address("person", { id: person.id })} class=${person.label ? "" : "unnamed"}>${person.label ?? words.noName}</a>
        <span class="muted">${words.faces(person.face_count)}</span>
      </p>
      ${marks && all?.length > 1
        ? html`<${Grid} key=${from} person=${person} faces=${shown} marks=${marks} />`
        : html`<div class=${`side-faces ${shapeOf(number)}`}>
            ${shown ? shown.map((face) => html`<span key=${face.id} class="side-face"><${Picture} isEager src=${cropUrl(face.id, sizeOf(number))} alt=${words.face.of(person.label)} /></span>`)
              : Array.from({ length: number }, (_, at) => html`<span key=${at} class="side-face"><span class="skeleton" /></span>`)}
          </div>`}
      ${isWhole && person.face_count > AT_ONCE && all && html`
        <div class="pager">
          <button class="button small square" data-page="before" aria-label=${words.review.facesBefore} disabled=${from === 0} onClick=${() => go(from - AT_ONCE)}><${Icon} name="back" size=${16} /></button>
          <span class="muted" role="status">${words.review.facesAt(from + 1, last, person.face_count)}</span>
          <button class="button small square" data-page="next" aria-label=${words.review.facesNext} disabled=${last >= all.length} onClick=${() => go(from + AT_ONCE)}><${Icon} name="next" size=${16} /></button>
        </div>`}
    </div>`;
}

const shapeOf = (number) => (number <= 1 ? "one" : number === 2 ? "two" : number <= 4 ? "four" : "many");

// Faces of which some are marked: by a tap, Space, Shift or a rectangle; the arrows go along them.
function Grid({ person, faces, marks }) {
  const ref = useRef();
  const goal = useRef(null);
  const [active, setActive] = useState(0);
  const [band, pointer] = useRectangle(ref, { hits: (box) => touchedCells(ref.current, box), selection: marks });
  useLayoutEffect(() => {
    if (goal.current === null) return;
    const cell = ref.current.querySelectorAll("[data-id]")[goal.current];
    goal.current = null;
    cell?.focus();
    cell?.scrollIntoView({ block: "nearest" });
  });
  // The cell above or below is as many on as stand in the first row.
  const columns = () => {
    const tops = [...ref.current.querySelectorAll("[data-id]")].map((each) => each.offsetTop);
    return tops.filter((each) => each === tops[0]).length;
  };
  const visit = (to, extends_) => {
    goal.current = Math.max(0, Math.min(faces.length - 1, to));
    setActive(goal.current);
    if (extends_) marks.extend(faces, goal.current);
  };
  const key = (event) => {
    const at = faces.findIndex((each) => each.id === event.target.dataset.id);
    if (at < 0) return;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key]
      ?? (event.key === "ArrowUp" ? -columns() : event.key === "ArrowDown" ? columns() : null);
    if (step !== null) visit(at + step, event.shiftKey);
    else if (event.key === "Home") visit(0, event.shiftKey);
    else if (event.key === "End") visit(faces.length - 1, event.shiftKey);
    else if (event.key === " ") marks.toggle(faces, at);
    else if (event.key === "a" && (event.ctrlKey || event.metaKey)) marks.set([...marks.ids.value, ...faces.map((each) => each.id)]);
    else if (event.key === "Escape") marks.clear();
    else return;
    event.preventDefault();
  };
  const click = (event, at) => {
    setActive(at);
    if (event.shiftKey) marks.extend(faces, at);
    else marks.toggle(faces, at);
  };
  const size = sizeOf(faces.length);
  return html`
    <div ref=${ref} class=${`side-faces ${shapeOf(faces.length)}`} role="listbox" aria-multiselectable="true"
      aria-label=${words.review.tap} onKeyDown=${key} ...${pointer}>
      ${faces.map((face, at) => html`
        <div key=${face.id} data-id=${face.id} role="option" aria-selected=${marks.has(face.id)} tabIndex=${at === Math.min(active, faces.length - 1) ? 0 : -1}
          class=${`side-face can-mark ${marks.has(face.id) ? "out" : ""}`} onClick=${(event) => click(event, at)}>
          <${Picture} isEager src=${cropUrl(face.id, size)} alt=${words.face.of(person.label)} />
          ${marks.has(face.id) && html`<span class="tick"><${Icon} name="close" size=${16} /></span>`}
        </div>`)}
      ${band && html`<div class="band" style=${band} role="presentation" />`}
    </div>`;
}
