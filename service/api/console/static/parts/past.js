// The last answers, newest first; each can be taken back.

import { html } from "../html.js";
import { reviews } from "../reviews.js";
import { cropUrl } from "../session.js";
import { words } from "../words.js";
import { Picture } from "./picture.js";

export function Past() {
  const past = reviews.past.value;
  if (!past.length) return null;
  return html`
    <section class="past" aria-label=${words.review.past}>
      <h2>${words.review.past}</h2>
      <ol>
        ${past.map((each) => {
          const { question } = each;
          const faces = question.face ? [question.face.id, question.people[0].cover_face_id]
            : question.people.map((person) => person.cover_face_id);
          const canGo = each.state === "saving" || each.state === "saved";
          return html`
            <li key=${each.id} class=${`past-answer ${each.state}`}>
              <button class="past-button" disabled=${!canGo} onClick=${() => reviews.takeBack(each.id)}
                title=${canGo ? words.review.takeBack : words.review.states[each.state]}>
                <span class="past-faces">${faces.filter(Boolean).slice(0, 2).map((id) => html`<${Picture} key=${id} className="small" src=${cropUrl(id, 96)} />`)}</span>
                <span class="past-text">${each.text}</span>
                <span class="muted">${words.review.states[each.state]}</span>
              </button>
            </li>`;
        })}
      </ol>
    </section>`;
}
