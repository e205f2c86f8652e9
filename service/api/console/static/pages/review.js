// One question at a time, answered by a key; the next one is there before the answer is sent.

import { call } from "../api.js";
import { attempt, moveFaces, splitPerson } from "../changes.js";
import { distance } from "../format.js";
import { html, useEffect, useLayoutEffect, useMemo } from "../html.js";
import { changed, openQuestions } from "../live.js";
import { outbox } from "../outbox.js";
import { reviews } from "../reviews.js";
import { address } from "../router.js";
import { mayWrite, ofTenant } from "../session.js";
import { actionOf, shortcuts } from "../shortcuts.js";
import { words } from "../words.js";
import { showPhoto } from "../parts/around.js";
import { Icon } from "../parts/icons.js";
import { showKeys } from "../parts/keys_help.js";
import { Past } from "../parts/past.js";
import { choosePerson } from "../parts/picker.js";
import { FaceSide, PersonSide, prefetch } from "../parts/question_side.js";
import { Selection } from "../parts/selection.js";
import { Empty, Failure, Skeletons } from "../parts/states.js";

const AHEAD = 4;

export function Page() {
  useEffect(() => {
    if (mayWrite.value) reviews.open();
  }, []);
  // What happens in the tenant may settle questions, and lead to others.
  const now = changed.value;
  useEffect(() => {
    if (mayWrite.value && reviews.isLoaded.value) reviews.refreshSoon();
  }, [now, openQuestions.value]);
  const [first, ...next] = reviews.questions.value;
  useEffect(() => {
    for (const each of next.slice(0, AHEAD)) prefetch(each);
  }, [first?.id, next.length]);
  if (!mayWrite.value) return html`<${Empty} isPage icon="lock" title=${words.noPermission} text=${words.noPermissionText("write")} />`;
  const problem = reviews.problem.value;
  if (problem?.status === 404) return html`<${Empty} isPage icon="review" title=${words.review.missing} text=${words.review.missingText} />`;
  if (problem && !first) return html`<${Failure} isPage problem=${problem} retry=${() => reviews.load()} />`;
  return html`
    <div class="review">
      <header class="page-head"><h1>${words.pages.review}</h1>
        <div class="tools"><${Saving} />
          <button class="button" onClick=${showKeys}><${Icon} name="question" />${words.review.keys}<kbd>${shortcuts.value.help}</kbd></button></div>
      </header>
      ${!reviews.isLoaded.value ? html`<${Skeletons} count=${2} className="question" />`
        : first ? html`<${Question} key=${first.id} question=${first} />`
        : html`<${Empty} icon="check" title=${words.review.none} text=${words.review.noneText}>
            <a class="button" href=${address("people")}>${words.pages.people}</a><//>`}
      <${Past} />
    </div>`;
}

function Saving() {
  const waiting = outbox.waiting.value.length;
  const text = !waiting ? words.review.allSaved
    : outbox.isHeld.value ? words.review.held(waiting) : words.review.saving(waiting);
  return html`<span class=${`saving ${outbox.isHeld.value ? "is-held" : ""}`} role="status">${text}</span>`;
}

// What each action answers, by the kind of the question; null where it has no such answer.
const REPLIES = {
  same_person: { yes: { answer: "same" }, no: { answer: "different" }, unsure: { answer: "not_sure" } },
  weak_match: { yes: { answer: "yes" }, no: { answer: "no" } },
  odd_face: { yes: { answer: "yes" }, no: { answer: "no" } },
  new_person: { no: { answer: "ignore" } },
};

function Question({ question }) {
  const { kind, people, face } = question;
  const [person, other] = people;
  const isNew = kind === "new_person";
  // Of each person the faces that are somebody else's.
  const canMark = isNew || kind === "same_person";
  const marks = useMemo(() => people.map(() => new Selection()), [question.id]);
  const marked = marks.reduce((sum, each) => sum + each.size, 0);
  const without = () => people.map((each, at) => ({ person: each, faces: [...marks[at].ids.value] }));
  const send = (reply, text) => reviews.answer(question, reply, text, without());
  const near = () => (face
    ? call("POST", ofTenant("/search"), { json: { face_id: face.id, limit: 12 } }).then((found) => found.matches)
    : call("GET", ofTenant(`/people/${person.id}/similar`), { query: { limit: 12 } }).then((found) => found.items));

  const name = async () => {
    if (!isNew) return;
    const chosen = await choosePerson({ title: words.review.whoIsThis, near, without: [person.id] });
    if (chosen?.label) send({ answer: "label", label: chosen.label }, chosen.label);
    else if (chosen?.id) send({ answer: "same", person_id: chosen.id }, words.review.done.same);
  };
  const merge = async () => {
    if (!isNew && kind !== "weak_match") return;
    const chosen = await choosePerson({ title: words.review.otherPerson, near, without: [person.id], allowsNew: false });
    if (chosen?.id) send({ answer: isNew ? "same" : "other", person_id: chosen.id }, words.review.done.other);
  };
  const act = {
    yes: () => {
      const reply = REPLIES[kind].yes ?? (other ? { answer: "same", person_id: other.id } : null);
      if (reply) send(reply, words.review.done[reply.answer]);
      else name();
    },
    no: () => send(REPLIES[kind].no, words.review.done[REPLIES[kind].no.answer]),
    unsure: () => {
      if (REPLIES[kind].unsure) send(REPLIES[kind].unsure, words.review.done.not_sure);
      else reviews.skip();
    },
    name, merge,
    photo: () => showPhoto(question),
    undo: () => reviews.takeBack(),
    help: showKeys,
    facesBefore: () => document.querySelector('.question [data-page="before"]')?.click(),
    facesNext: () => document.querySelector('.question [data-page="next"]')?.click(),
  };
  // With the question on the screen its keys work: an effect that runs later loses a quick press.
  useLayoutEffect(() => {
    const press = (event) => {
      const action = actionOf(event);
      // A key that is held down answers no question that nobody has seen.
      if (!action || event.repeat || document.querySelector("dialog[open]")) return;
      event.preventDefault();
      act[action]();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  });

  // Where the marked faces go at once, in the place of people of their own with the answer.
  const place = async () => {
    for (const { person: whose, faces } of without()) {
      if (!faces.length) continue;
      const nearest = () => call("POST", ofTenant("/search"), { json: { face_id: faces[0], limit: 12 } }).then((found) => found.matches);
      const to = await choosePerson({ title: words.face.moveTo(faces.length), near: nearest, without: [whose.id] });
      if (!to) return;
      const act = to.id ? () => moveFaces(faces.map((id) => ({ id, person_id: whose.id })), to.id)
        : () => splitPerson(whose.id, faces, to.label ? { label: to.label } : {});
      if (!await attempt(act)) return;
    }
    for (const each of marks) each.clear();
    await reviews.load();
  };
  const says = words.review.asks[kind](person, other);
  return html`
    <section class="question" aria-labelledby="question" data-id=${question.id} data-kind=${kind}>
      <div class="question-text">
        <h2 id="question" aria-live="polite">${says}</h2>
        <p class="muted">${words.review.evidence(question, distance)} ${words.review.settles(question.settles, kind)}
          ${canMark && people.some((each) => each.face_count > 1) && ` ${words.review.tap}.`}</p>
      </div>
      <div class=${`sides ${kind}`}>
        ${face && html`<${FaceSide} face=${face} />`}
        ${people.map((each, at) => html`<${PersonSide} key=${`${each.id} ${each.face_count}`} person=${each} marks=${canMark ? marks[at] : null} isWhole=${isNew} />`)}
      </div>
      ${marked > 0 && html`
        <div class="exceptions"><p role="status">${words.review.exceptions(marked)}</p>
          <button class="button small" onClick=${place}><${Icon} name="move" size=${16} />${words.face.move}</button>
          <button class="button small quiet" onClick=${() => marks.forEach((each) => each.clear())}>${words.face.clear}</button></div>`}
      <div class="answers" role="group" aria-label=${words.review.answers}>
        <${Answer} action="yes" kind=${isNew && !other ? "name" : kind} run=${act.yes} tone="primary" icon=${isNew && !other ? "edit" : "check"} />
        <${Answer} action="no" kind=${kind} run=${act.no} icon=${isNew ? "hide" : "no"} />
        <${Answer} action="unsure" kind=${kind} run=${act.unsure} icon="question" />
        ${isNew && other && html`<${Answer} action="name" kind=${kind} run=${name} icon="edit" />`}
        ${(isNew || kind === "weak_match") && html`<${Answer} action="merge" kind=${kind} run=${merge} icon="merge" />`}
        <${Answer} action="photo" kind=${kind} run=${act.photo} icon="photos" />
      </div>
    </section>`;
}

const Answer = ({ action, kind, run, icon, tone = "" }) => html`
  <button class=${`button large ${tone}`} onClick=${run}>
    <${Icon} name=${icon} />${words.review.labels[kind]?.[action] ?? words.review.labels.any[action]}<kbd>${shortcuts.value[action]}</kbd>
  </button>`;
