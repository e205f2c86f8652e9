// Short messages about what was done, with the way back, read aloud as they come.

import { signal } from "./html.js";

const STAY_MS = 8000;
// With a way back: nobody has to hurry.
const STAY_WITH_ACTION_MS = 30_000;
const MOST = 3;

let last = 0;
const timers = new Map();

export const toasts = signal([]);

// kind: "done" or "wrong". action: {label, run} such as undo; what is wrong stays until dismissed.
export function tell(text, { kind = "done", action = null } = {}) {
  const id = ++last;
  toasts.value = [...toasts.value, { id, text, kind, action }].slice(-MOST);
  if (kind === "done") hold(id, false);
  return id;
}

export function dismiss(id) {
  clearTimeout(timers.get(id));
  timers.delete(id);
  toasts.value = toasts.value.filter((each) => each.id !== id);
}

// A message under the pointer or the focus does not go.
export function hold(id, isHeld) {
  clearTimeout(timers.get(id));
  const told = toasts.value.find((each) => each.id === id);
  if (!isHeld) timers.set(id, setTimeout(() => dismiss(id), told?.action ? STAY_WITH_ACTION_MS : STAY_MS));
}
