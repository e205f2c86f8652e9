// Choosing a person: who looks alike first, then by name as it is typed.

import { call } from "../api.js";
import { html, useEffect, useId, useLayoutEffect, useRef, useState } from "../html.js";
import { learn, person } from "../people.js";
import { cropUrl, ofTenant } from "../session.js";
import { words } from "../words.js";
import { DialogHead, show } from "./dialog.js";
import { Picture } from "./picture.js";
import { Similarity } from "./similarity.js";

const WAIT_MS = 120;
const MOST = 12;

// Resolves with {id} of a person, {label} for a new one of this name, or null.
// near: () => a promise of matches, nearest first. without: ids that are not offered.
export const choosePerson = ({ title, near = null, without = [], allowsNew = true }) =>
  show((close) => html`<${Picker} ...${{ title, near, without, allowsNew, close }} />`);

function Picker({ title, near, without, allowsNew, close }) {
  const [text, setText] = useState("");
  const [matches, setMatches] = useState(null);
  const [found, setFound] = useState({ text: null, items: [] });
  // Enter was pressed before the people with the typed name were known.
  const [isWaiting, setWaiting] = useState(false);
  const [at, setAt] = useState(null);
  const [problem, setProblem] = useState(null);
  const id = useId();
  const list = useRef();

  useEffect(() => {
    if (!near) {
      setMatches([]);
      return;
    }
    near().then(setMatches, (failed) => {
      setMatches([]);
      setProblem(failed);
    });
  }, []);

  useEffect(() => {
    const stop = new AbortController();
    const timer = setTimeout(() => {
      const query = text.trim() ? { prefix: text.trim(), limit: MOST } : { labelled: true, limit: MOST };
      call("GET", ofTenant("/people"), { query, signal: stop.signal }).then(
        (page) => {
          learn(...page.items);
          setFound({ text, items: page.items });
          setProblem(null);
        },
        (failed) => {
          if (failed.name === "AbortError") return;
          setProblem(failed);
          setWaiting(false);
        },
      );
    }, text ? WAIT_MS : 0);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [text]);

  const wanted = text.trim().toLocaleLowerCase();
  const ranked = (matches ?? []).filter((each) => {
    const label = person(each.person_id).value?.label ?? "";
    return !without.includes(each.person_id)
      && (!wanted || label.toLocaleLowerCase().includes(wanted));
  });
  const isKnown = found.text === text;
  const others = found.items.filter((each) =>
    !without.includes(each.id) && !ranked.some((match) => match.person_id === each.id)
    && (!wanted || each.label?.toLocaleLowerCase().startsWith(wanted)));
  // Whoever has exactly this name comes first.
  const isNamed = (id) => Number(person(id).value?.label?.toLocaleLowerCase() === wanted);
  const options = [
    ...[...ranked.map((match) => ({ key: match.person_id, id: match.person_id, match })),
      ...others.map((each) => ({ key: each.id, id: each.id }))].sort((one, other) => isNamed(other.id) - isNamed(one.id)),
    ...(allowsNew && text.trim() ? [{ key: "new", label: text.trim() }] : []),
    ...(allowsNew && !text.trim() ? [{ key: "new", label: null }] : []),
  ].slice(0, 60);
  // Enter takes what was typed, or a sure match; never a stranger who is merely the nearest.
  const isSure = Boolean(wanted) || ranked[0]?.is_match;
  const chosen = Math.min(at ?? (isSure ? 0 : -1), options.length - 1);

  useLayoutEffect(() => {
    if (!isWaiting || !isKnown) return;
    setWaiting(false);
    if (options[chosen]) take(options[chosen]);
  }, [isWaiting, isKnown]);

  useEffect(() => {
    list.current?.querySelector('[aria-selected="true"]')?.scrollIntoView({ block: "nearest" });
  }, [chosen]);

  const take = (option) =>
    close(option.key === "new" ? { label: option.label } : { id: option.id });
  const key = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) setAt(Math.max(0, Math.min(options.length - 1, chosen + step)));
    else if (event.key === "Enter" && wanted && at === null && !isKnown) setWaiting(true);
    else if (event.key === "Enter" && options[chosen]) take(options[chosen]);
    else return;
    event.preventDefault();
  };
  return html`
    <${DialogHead} title=${title} close=${close} />
    <div class="picker">
      <input data-first class="input" role="combobox" aria-expanded="true" aria-controls=${`${id}-list`}
        aria-activedescendant=${chosen >= 0 ? `${id}-${chosen}` : undefined} aria-label=${words.picker.name}
        placeholder=${words.picker.name} value=${text} autocomplete="off" spellcheck=${false}
        onInput=${(event) => { setText(event.target.value); setAt(null); }} onKeyDown=${key} />
      ${problem && html`<p class="field-error" role="alert">${words.problem(problem, false)}</p>`}
      <div ref=${list} id=${`${id}-list`} class="options" role="listbox" aria-label=${title}>
        ${matches === null && html`<div class="option"><span class="skeleton line" /></div>`}
        ${options.map((option, position) => html`
          <div key=${option.key} id=${`${id}-${position}`} class="option" role="option"
            aria-selected=${position === chosen} onMouseMove=${() => setAt(position)} onClick=${() => take(option)}>
            ${option.key === "new"
              ? html`<span class="option-new">${option.label ? words.picker.newNamed(option.label) : words.picker.newPerson}</span>`
              : html`<${PersonLine} id=${option.id} match=${option.match} />`}
          </div>`)}
      </div>
    </div>`;
}

// A person in a line: cover, name, how many faces, how alike.
export function PersonLine({ id, match = null }) {
  const found = person(id).value;
  const face = found?.cover_face_id ?? match?.nearest_face_id;
  return html`
    <${Picture} className="small" src=${face && cropUrl(face, 96)} />
    <span class="line-text">
      <span class=${found?.label ? "line-name" : "line-name unnamed"}>${found?.label ?? words.noName}</span>
      <span class="muted">${words.faces(found?.face_count ?? match?.face_count ?? 0)}</span>
    </span>
    ${match && html`<${Similarity} match=${match} />`}`;
}
