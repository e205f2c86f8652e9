// Dialogs: one at a time above the page, with the focus kept inside and given back afterwards.

import { html, signal, useLayoutEffect, useRef, useState } from "../html.js";
import { words } from "../words.js";
import { Icon } from "./icons.js";

const open = signal(null);

// Shows what `view(close)` renders; resolves with what `close` is called with, null when dismissed.
export function show(view) {
  return new Promise((resolve) => {
    open.value?.close(null);
    const close = (result) => {
      if (open.value?.view === view) open.value = null;
      resolve(result);
    };
    open.value = { view, close };
  });
}

export function Dialogs() {
  const shown = open.value;
  return shown && html`<${Frame} key=${shown} close=${shown.close}>${shown.view(shown.close)}<//>`;
}

function Frame({ close, children }) {
  const ref = useRef();
  useLayoutEffect(() => {
    const before = document.activeElement;
    ref.current.showModal();
    ref.current.querySelector("[data-first]")?.focus();
    return () => before?.focus?.({ preventScroll: true });
  }, []);
  const outside = (event) => event.target === ref.current && close(null);
  const cancel = (event) => {
    event.preventDefault();
    close(null);
  };
  return html`<dialog ref=${ref} class="dialog" aria-labelledby="dialog-title" onCancel=${cancel}
    onMouseDown=${outside}>
    <div class="dialog-body">${children}</div>
  </dialog>`;
}

export const DialogHead = ({ title, close }) => html`
  <header class="dialog-head">
    <h2 id="dialog-title">${title}</h2>
    <button class="button quiet square" aria-label=${words.close} onClick=${() => close(null)}>
      <${Icon} name="close" />
    </button>
  </header>`;

// A question that is answered by yes or no. typed: a word that has to be written first.
export function ask({ title, text, confirm, isDanger = false, typed = null }) {
  return show((close) => html`
    <${Question} ...${{ title, text, confirm, isDanger, typed }} close=${(result) => close(result === true)} />`)
    .then((result) => result === true);
}

function Question({ title, text, confirm, isDanger, typed, close }) {
  const [given, setGiven] = useState("");
  const submit = (event) => {
    event.preventDefault();
    if (typed === null || given === typed) close(true);
  };
  return html`
    <${DialogHead} title=${title} close=${close} />
    <form onSubmit=${submit}>
      <div class="dialog-text">${text}</div>
      ${typed !== null && html`
        <label class="field">${words.typeToConfirm(typed)}
          <input data-first value=${given} autocomplete="off" onInput=${(event) => setGiven(event.target.value)} />
        </label>`}
      <footer class="dialog-foot">
        <button type="button" class="button" data-first=${typed === null ? "" : undefined} onClick=${() => close(false)}>
          ${words.cancel}
        </button>
        <button class=${`button ${isDanger ? "danger" : "primary"}`} disabled=${typed !== null && given !== typed}>
          ${confirm}
        </button>
      </footer>
    </form>`;
}
