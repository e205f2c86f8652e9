// Answers of reviews on their way to the service: in order, kept until each one is acknowledged.

import { call, newKey } from "./api.js";
import { signal } from "./html.js";
import { session } from "./session.js";

const ITEM = "facette.outbox.";
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
// Over plain HTTP there are no locks, and no window knows which others live: as it is opened, it sends what it finds, as
// well as the window that added it may; that counts once.
const { locks = { request: (name, run) => run() } } = navigator;

// An entry: {id, steps, made} and facts of whoever added it. steps: requests, {key, path, json} each, or {key, path,
// unsplit} for the taking back of a split; they are sent one after the other, and one that is refused ends the entry.
// made: the ids that the acknowledged ones answered with. key is the Idempotency-Key, so that a step whose
// acknowledgement was lost is sent again and counts once.
class Outbox {
  constructor() {
    // A window writes its own item alone, and holds the lock of that name while it lives.
    this._item = ITEM + newKey();
    this.waiting = signal([]);
    this.isHeld = signal(false);
    this._listeners = new Set();
    this._isSending = false;
    this._underWay = null;
    this._awaited = new Set([this._item]);
    this._wait = FIRST_WAIT_MS;
    locks.request(this._item, () => new Promise(() => {}));
    addEventListener("online", () => this.send());
    addEventListener("storage", (event) => navigator.locks && event.newValue && this._inherit(event.key));
    for (const item of Object.keys(localStorage)) this._inherit(item);
  }

  // Calls `listener(entry, problem)` when an entry is over; a problem is why its next step was refused.
  listen(listener) {
    this._listeners.add(listener);
    return () => this._listeners.delete(listener);
  }

  // steps: without their keys.
  add(steps, facts) {
    const entry = { id: newKey(), steps: steps.map((each) => ({ key: newKey(), ...each })), made: [], ...facts };
    this._keep([...this.waiting.value, entry]);
    this.send();
    return entry.id;
  }

  // Takes an entry back of which nothing is on its way yet; false where it is too late.
  withdraw(id) {
    const entry = this.waiting.value.find((each) => each.id === id);
    if (!entry || entry.made.length || id === this._underWay) return false;
    this._keep(this.waiting.value.filter((each) => each !== entry));
    return true;
  }

  async send() {
    if (this._isSending) return;
    this._isSending = true;
    try {
      while (this.waiting.value.length && session.value) await this._sendStep(this.waiting.value[0]);
    } catch (problem) {
      // Whoever signs in again goes on.
      if (problem.status !== 401 && problem.name !== "AbortError") throw problem;
    } finally {
      this._isSending = false;
    }
  }

  async _sendStep(entry) {
    this._underWay = entry.id;
    const step = entry.steps[entry.made.length];
    let answer = null;
    try {
      const path = step.unsplit ? await undoOfSplit(step) : step.path;
      if (path) answer = await call("POST", path, { json: step.json, headers: { "Idempotency-Key": step.key } });
    } catch (problem) {
      if (problem.mayPass) await this._pause(problem);
      else if (!problem.status || problem.status === 401) throw problem;
      else this._settle(entry, problem);
      return;
    }
    const now = { ...entry, made: [...entry.made, answer?.id ?? null] };
    if (now.made.length === now.steps.length) this._settle(now, null);
    else this._keep(this.waiting.value.map((each) => (each === entry ? now : each)));
  }

  async _pause(problem) {
    this.isHeld.value = true;
    const wait = problem.isOffline || problem.status === 500 ? this._wait : problem.retryAfterMs;
    this._wait = Math.min(2 * this._wait, LONGEST_WAIT_MS);
    await new Promise((done) => setTimeout(done, wait));
  }

  _settle(entry, problem) {
    this.isHeld.value = false;
    this._wait = FIRST_WAIT_MS;
    this._keep(this.waiting.value.filter((each) => each.id !== entry.id));
    for (const listener of this._listeners) listener(entry, problem);
  }

  // Takes over what another window left behind, once that window is gone.
  async _inherit(item) {
    if (!item.startsWith(ITEM) || this._awaited.has(item)) return;
    this._awaited.add(item);
    await locks.request(item, () => {
      this._keep([...this.waiting.value, ...JSON.parse(localStorage.getItem(item) ?? "[]")]);
      localStorage.removeItem(item);
    });
    this.send();
  }

  _keep(entries) {
    this.waiting.value = entries;
    if (entries.length) localStorage.setItem(this._item, JSON.stringify(entries));
    else localStorage.removeItem(this._item);
  }
}

// A split answers with the person that it made, `unsplit`; path: of the history, which has the change. Null where it has
// none any more.
async function undoOfSplit({ path, unsplit }) {
  const page = await call("GET", path, { query: { kind: "person.split", person_id: unsplit } });
  const change = page.items.find((each) => each.subject.new_person_id === unsplit);
  return change ? `${path}/${change.id}/undo` : null;
}

export const outbox = new Outbox();
