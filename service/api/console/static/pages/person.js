// A person: who it is, and everything that can be said or put right about it.

import { call } from "../api.js";
import { attempt, changed, confirmFaces, editPerson, mergePeople } from "../changes.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "../html.js";
import { learn } from "../people.js";
import { address, go } from "../router.js";
import { cropUrl, mayWrite, ofTenant } from "../session.js";
import { words } from "../words.js";
import { day } from "../format.js";
import { tell } from "../toasts.js";
import { ask } from "../parts/dialog.js";
import { FacesOfPerson } from "../parts/faces_of_person.js";
import { HistoryList } from "../parts/history_list.js";
import { Icon } from "../parts/icons.js";
import { useLoad } from "../parts/load.js";
import { choosePerson } from "../parts/picker.js";
import { Picture } from "../parts/picture.js";
import { PhotoOrder, PhotoWall } from "../parts/photo_wall.js";
import { LooksAlike } from "../parts/looks_alike.js";
import { Empty, Failure, Loading } from "../parts/states.js";
import { Tabs } from "../parts/tabs.js";

export function Page({ id, tab = "faces", order = "created" }) {
  const { data: person, problem, reload } = useLoad(
    (signal) => call("GET", ofTenant(`/people/${id}`), { signal }), [id, changed.value]);
  useEffect(() => {
    if (person) learn(person);
  }, [person]);
  useEffect(() => {
    if (problem?.body?.merged_into) go("person", { id: problem.body.merged_into }, { replace: true });
  }, [problem]);
  if (problem?.status === 404) {
    return html`<${Empty} isPage icon="people" title=${words.person.gone} text=${words.person.goneText}>
      <a class="button" href=${address("people")}>${words.pages.people}</a><//>`;
  }
  if (problem) return html`<${Failure} isPage problem=${problem} retry=${reload} />`;
  if (!person) return html`<div class="person-head"><span class="skeleton cover" /></div><${Loading} />`;
  const choose = (name) => go("person", { id, tab: name }, { replace: true });
  return html`
    <${Head} person=${person} />
    <${Tabs} label=${words.person.parts} chosen=${tab} choose=${choose}
      tabs=${["faces", "photos", "alike", "history"].map((name) => [name, words.person.tabs[name]])}>
      ${tab === "faces" && html`<${FacesOfPerson} person=${person} />`}
      ${tab === "photos" && html`
        <div class="tools-row"><span class="muted">${words.photos(person.image_count)}</span>
          <${PhotoOrder} value=${order} change=${(value) => go("person", { id, tab, order: value }, { replace: true })} /></div>
        <${PhotoWall} path=${ofTenant("/images")} query=${{ person_id: id, order }} />`}
      ${tab === "alike" && html`<${LooksAlike} person=${person} />`}
      ${tab === "history" && html`<${HistoryList} query=${{ person_id: id }} />`}
    <//>`;
}

function Head({ person }) {
  const similar = () => call("GET", ofTenant(`/people/${person.id}/similar`), { query: { limit: 12 } })
    .then((found) => found.items);
  const merge = async () => {
    const chosen = await choosePerson({
      title: words.person.mergeWith, near: similar, without: [person.id], allowsNew: false,
    });
    if (!chosen) return;
    // The one with a name keeps its id and its name.
    const keeps = person.label ? [chosen.id, person.id] : [person.id, chosen.id];
    if (await attempt(() => mergePeople(...keeps))) go("person", { id: keeps[1] }, { replace: true });
  };
  const hide = () => attempt(() => editPerson(person, { hidden: !person.hidden },
    person.hidden ? words.person.shownAgain : words.person.nowHidden));
  const erase = async () => {
    const isSure = await ask({
      title: words.person.eraseTitle, text: words.person.eraseText(person),
      confirm: words.person.erase, isDanger: true,
    });
    if (!isSure) return;
    const done = await attempt(async () => {
      await call("DELETE", ofTenant(`/people/${person.id}`), { headers: { "If-Match": `"${person.version}"` } });
    });
    if (done) {
      tell(words.person.erased);
      go("people");
    }
  };
  return html`
    <header class="person-head">
      <a class="button quiet square" href=${address("people")} aria-label=${words.person.back}><${Icon} name="back" /></a>
      <${Picture} className="cover" isEager src=${person.cover_face_id && cropUrl(person.cover_face_id)} />
      <div class="person-title">
        <${Name} key=${person.id} person=${person} />
        <p class="muted">${words.faces(person.face_count)} · ${words.photos(person.image_count)} · ${words.person.lastSeen(day(person.last_face_at))}
          ${person.hidden && html` · <span class="tag">${words.person.hidden}</span>`}</p>
      </div>
      ${mayWrite.value && html`
        <div class="row actions">
          <button class="button" onClick=${() => attempt(() => confirmFaces(person.id))}><${Icon} name="check" />${words.person.confirm}</button>
          <button class="button" onClick=${merge}><${Icon} name="merge" />${words.person.merge}</button>
          <button class="button" onClick=${hide}><${Icon} name=${person.hidden ? "show" : "hide"} />${person.hidden ? words.person.unhide : words.person.hide}</button>
          <button class="button quiet-danger" onClick=${erase}><${Icon} name="trash" />${words.person.erase}</button>
        </div>`}
    </header>`;
}

// The name, changed where it stands: Enter saves, Escape gives up. What is saved is a change of the person that was there
// as the editing began: somebody else may change it meanwhile.
function Name({ person }) {
  const [edited, setEdited] = useState(null);
  const [text, setText] = useState("");
  const field = useRef();
  useLayoutEffect(() => {
    field.current?.focus();
    field.current?.select();
  }, [edited === null]);
  if (!mayWrite.value) return html`<h1 class=${person.label ? "" : "unnamed"}>${person.label ?? words.noName}</h1>`;
  if (edited === null) {
    const begin = () => {
      setEdited(person);
      setText(person.label ?? "");
    };
    return html`<h1>
      <button class=${`name-button ${person.label ? "" : "unnamed"}`} title=${words.person.rename} onClick=${begin}>
        ${person.label ?? words.person.giveName}<${Icon} name="edit" size=${18} /></button></h1>`;
  }
  const end = () => {
    // The field loses the focus as it goes; that saves nothing more.
    field.current = null;
    setEdited(null);
  };
  const save = async () => {
    if (!field.current) return;
    const label = text.trim() || null;
    end();
    if (label !== edited.label) await attempt(() => editPerson(edited, { label }, words.person.renamed));
  };
  const key = (event) => {
    if (event.key === "Enter") save();
    if (event.key === "Escape") end();
  };
  return html`<input ref=${field} class="input name-input" aria-label=${words.person.name} value=${text} maxLength="200"
    onInput=${(event) => setText(event.target.value)} onKeyDown=${key} onBlur=${save} />`;
}
