// The people who look like a person, nearest first, each with the way to say that they are one.

import { call } from "../api.js";
import { attempt, changed, mergePeople } from "../changes.js";
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

export function LooksAlike({ person }) {
  const { data, problem, reload } = useLoad(
    (signal) => call("GET", ofTenant(`/people/${person.id}/similar`), { query: { limit: MOST }, signal }),
    [person.id, changed.value]);
  if (problem) return html`<${Failure} problem=${problem} retry=${reload} />`;
  if (!data) return html`<${Loading} count=${8} className="alike" />`;
  if (!data.items.length) return html`<${Empty} icon="people" title=${words.alike.none} text=${words.alike.noneText} />`;
  return html`<ul class="alikes">
    ${data.items.map((match) => html`<${Alike} key=${match.person_id} person=${person} match=${match} />`)}
  </ul>`;
}

function Alike({ person, match }) {
  const other = known(match.person_id).value;
  const same = async () => {
    const [from, into] = person.label || !other?.label
      ? [match.person_id, person.id] : [person.id, match.person_id];
    if (await attempt(() => mergePeople(from, into)) && into !== person.id) go("person", { id: into });
  };
  return html`
    <li class="alike-card">
      <a href=${address("person", { id: match.person_id })} class="alike-link">
        <${Picture} src=${cropUrl(match.nearest_face_id, 192)} />
        <span class=${`person-name ${other?.label ? "" : "unnamed"}`}>${other?.label ?? words.noName}</span>
        <span class="person-count">${words.faces(match.face_count)}</span>
      </a>
      <${Similarity} match=${match} />
      <p class="muted small">${words.evidence(match)}</p>
      ${mayWrite.value && html`
        <button class="button wide" onClick=${same}><${Icon} name="merge" />${words.alike.same}</button>`}
    </li>`;
}
