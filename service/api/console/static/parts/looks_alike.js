// The people who look like a person, nearest first, each with the ways to say that they are one, or two.

import { call } from "../api.js";
import { answerQuestion, attempt, changed, mergePeople } from "../changes.js";
import { html } from "../html.js";
import { person as known } from "../people.js";
import { address, go } from "../router.js";
import { cropUrl, mayWrite, ofTenant } from "../session.js";
import { words } from "../words.js";
import { Icon } from "./icons.js";
import { useLoad } from "./load.js";
import { Picture } from "./picture.js";
import { Similarity } from "./similarity.js";
import { Empty, Failure, Loading } from "./states.js";

const MOST = 12;
const MOST_LISTED = 500;

export function LooksAlike({ person }) {
  const { data, problem, reload } = useLoad(async (signal) => {
    const read = (path, query) => call("GET", ofTenant(path), { query, signal }).then((page) => page.items);
    const asked = { kind: "same_person", person_id: person.id, limit: MOST_LISTED };
    const [matches, open, putOff, decisions] = await Promise.all([
      read(`/people/${person.id}/similar`, { limit: MOST }),
      read("/reviews", asked), read("/reviews", { ...asked, put_off: true }),
      read("/decisions", { limit: MOST_LISTED }),
    ]);
    const questions = new Map([...putOff, ...open].map((each) =>
      [each.people.find((one) => one.id !== person.id).id, each.id]));
    const different = new Set(decisions.filter((each) =>
      each.kind === "different" && each.person_ids.includes(person.id)).flatMap((each) => each.person_ids));
    return { matches, questions, different };
  }, [person.id, changed.value]);
  if (problem) return html`<${Failure} problem=${problem} retry=${reload} />`;
  if (!data) return html`<${Loading} count=${8} className="alike" />`;
  if (!data.matches.length) return html`<${Empty} icon="people" title=${words.alike.none} text=${words.alike.noneText} />`;
  return html`<ul class="alikes">
    ${data.matches.map((match) => html`<${Alike} key=${match.person_id} person=${person} match=${match}
      question=${data.questions.get(match.person_id)} areDifferent=${data.different.has(match.person_id)} />`)}
  </ul>`;
}

// question: the id of the open one about the two, if there is one: its answer is what stays.
function Alike({ person, match, question, areDifferent }) {
  const other = known(match.person_id).value;
  const same = async () => {
    const [from, into] = person.label || !other?.label
      ? [match.person_id, person.id] : [person.id, match.person_id];
    if (await attempt(() => mergePeople(from, into)) && into !== person.id) go("person", { id: into });
  };
  const different = () => attempt(() =>
    answerQuestion(question, { answer: "different" }, words.alike.toldApart, [person.id, match.person_id]));
  return html`
    <li class=${`alike-card ${areDifferent ? "told-apart" : ""}`}>
      <a href=${address("person", { id: match.person_id })} class="alike-link">
        <${Picture} src=${cropUrl(match.nearest_face_id, 192)} />
        <span class=${`person-name ${other?.label ? "" : "unnamed"}`}>${other?.label ?? words.noName}</span>
        <span class="person-count">${words.faces(match.face_count)}</span>
      </a>
      <${Similarity} match=${match} />
      <p class="muted small">${words.evidence(match)}</p>
      ${mayWrite.value && !areDifferent && html`
        <div class="alike-answers">
          <button class="button" onClick=${same}><${Icon} name="merge" />${words.alike.same}</button>
          ${question && html`<button class="button" onClick=${different}><${Icon} name="no" />${words.alike.different}</button>`}
        </div>`}
      ${areDifferent && html`<p class="tag apart"><${Icon} name="check" size=${16} />${words.alike.areDifferent}</p>`}
    </li>`;
}
