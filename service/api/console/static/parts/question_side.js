// One side of a question: a face, or the faces of a person, as large as there is room.

import { call } from "../api.js";
import { html, signal } from "../html.js";
import { address } from "../router.js";
import { cropUrl, ofTenant } from "../session.js";
import { words } from "../words.js";
import { Icon } from "./icons.js";
import { Picture } from "./picture.js";

const MOST = 12;
const MOST_TO_CHECK = 100;
const MOST_KEPT = 300;
const read = new Map();

// The faces of a person, the least sure first; read once, since questions come back to a person.
function facesOf(person, most) {
  const key = `${ofTenant()} ${person.id} ${person.face_count} ${most}`;
  if (!read.has(key)) {
    const found = signal(null);
    read.set(key, found);
    if (read.size > MOST_KEPT) read.delete(read.keys().next().value);
    call("GET", ofTenant(`/people/${person.id}/faces`), { query: { limit: most } }).then(
      (page) => {
        found.value = page.items.sort((one, other) => (other.distance ?? -1) - (one.distance ?? -1));
      },
      () => {
        read.delete(key);
        found.value = person.cover_face_id ? [{ id: person.cover_face_id }] : [];
      },
    );
  }
  return read.get(key);
}

const sizeOf = (number) => (number <= 2 ? 512 : number <= 4 ? 256 : 160);
const mostOf = (question, person) =>
  question.kind === "new_person" && person === question.people[0] ? MOST_TO_CHECK : MOST;

// Loads what a question will show.
export async function prefetch(question) {
  const load = (id, size) => {
    new Image().src = cropUrl(id, size);
  };
  if (question.face) load(question.face.id, 512);
  for (const person of question.people) {
    const found = facesOf(person, mostOf(question, person));
    const stop = found.subscribe((faces) => {
      if (!faces) return;
      for (const each of faces.slice(0, MOST)) load(each.id, sizeOf(faces.length));
      queueMicrotask(() => stop());
    });
  }
}

// exceptions: a selection of faces that are somebody else's; a tap puts a face into it.
export function Side({ person = null, faces = null, title = null, isLarge = false, exceptions = null }) {
  const shown = faces ?? facesOf(person, exceptions ? MOST_TO_CHECK : MOST).value;
  const number = shown?.length ?? Math.min(MOST, person.face_count);
  const size = isLarge ? 512 : sizeOf(number);
  const shape = number <= 1 ? "one" : number === 2 ? "two" : number <= 4 ? "four" : "many";
  return html`
    <div class="side">
      <p class="side-title">
        ${person ? html`<a href=${address("person", { id: person.id })} class=${person.label ? "" : "unnamed"}>${person.label ?? words.noName}</a>
          <span class="muted">${words.faces(person.face_count)}</span>` : html`<span>${title}</span>`}
      </p>
      <div class=${`side-faces ${shape}`}>
        ${shown ? shown.map((face, at) => {
          const isOut = exceptions?.has(face.id);
          const picture = html`<${Picture} isEager src=${cropUrl(face.id, size)} alt=${words.face.of(person?.label)} />`;
          return exceptions && shown.length > 1
            ? html`<button key=${face.id} class=${`side-face ${isOut ? "out" : ""}`} aria-pressed=${!isOut} title=${words.review.tap}
                onClick=${() => exceptions.toggle(shown, at)}>${picture}${isOut && html`<span class="tick"><${Icon} name="close" size=${16} /></span>`}</button>`
            : html`<span key=${face.id} class="side-face">${picture}</span>`;
        }) : Array.from({ length: number }, (_, at) => html`<span key=${at} class="side-face"><span class="skeleton" /></span>`)}
      </div>
    </div>`;
}
