// The keys of the review page: what each does, as the reader has chosen it.

import { signal } from "./html.js";

const KEY = "facette.keys";
const DEFAULTS = {
  yes: "a", no: "x", unsure: "s", name: "n", merge: "m", photo: "p", undo: "u", help: "?",
  facesBefore: ",", facesNext: ".",
};

export const ACTIONS = Object.keys(DEFAULTS);
export const shortcuts = signal({ ...DEFAULTS, ...JSON.parse(localStorage.getItem(KEY) ?? "{}") });

// The action of a key press, null where it has none or somebody is writing.
export function actionOf(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || isWriting(event.target)) return null;
  if (event.key === "Backspace") return "undo";
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  return ACTIONS.find((action) => shortcuts.value[action] === key) ?? null;
}

const isWriting = (target) =>
  target.matches?.("input, textarea, select, [contenteditable]") || Boolean(target.closest?.("dialog"));

// Gives a key to an action; the action that had it gets this one's former key.
export function assign(action, key) {
  const now = { ...shortcuts.value };
  const other = ACTIONS.find((each) => now[each] === key);
  if (other) now[other] = now[action];
  now[action] = key;
  save(now);
}

export const restore = () => save({ ...DEFAULTS });

function save(now) {
  shortcuts.value = now;
  localStorage.setItem(KEY, JSON.stringify(now));
}
