// Answers of reviews on their way to the service: in order, kept until each one is acknowledged.

import { call, newKey } from "./api.js";
import { signal } from "./html.js";
import { session } from "./session.js";

const KEY = "facette.outbox";
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
const LATER = new Set([0, 408, 429, 500, 502, 503, 504]);

// An entry: {id, path, json} and facts of whoever added it. The id is its Idempotency-Key, so that an answer whose
// acknowledgement was lost is sent again and counts once.
class Outbox {
  constructor() {
    this.waiting = signal(JSON.parse(localStorage.getItem(KEY) ?? "[]"));
    this.isHeld = signal(false);
    this._listeners = new Set();
    this._isSending = false;
    this._wait = FIRST_WAIT_MS;
    addEventListener("online", () => this.send());
    // Tabs share the storage: an entry of another tab is that tab's to send while it lives.
    addEventListener("storage", (event) => event.key === KEY && this._merge());
  }

  // Calls `listener(entry, answer, problem)` when an entry was answered.
  listen(listener) {
    this._listeners.add(listener);
    return () => this._listeners.delete(listener);
  }

  add(path, json, facts = {}) {
    const entry = { id: newKey(), path, json, ...facts };
    this._keep([...this.waiting.value, entry]);
    this.send();
    return entry.id;
  }

  // Takes an entry back that is not on its way yet; false where it is too late.
  withdraw(id) {
    const at = this.waiting.value.findIndex((each) => each.id === id);
    if (at < 0 || (at === 0 && this._isSending)) return false;
    this._keep(this.waiting.value.filter((each) => each.id !== id));
    return true;
  }

  async send() {
    if (this._isSending) return;
    this._isSending = true;
    try {
      // One tab sends at a time, so that the order holds.
      await navigator.locks.request(KEY, () => this._sendAll());
    } finally {
      this._isSending = false;
    }
  }

  async _sendAll() {
    this._merge();
    while (this.waiting.value.length && session.value) {
      const [entry] = this.waiting.value;
      try {
        const answer = await call("POST", entry.path, {
          json: entry.json ?? undefined, headers: { "Idempotency-Key": entry.id },
        });
        this._settle(entry, answer, null);
      } catch (problem) {
        if (problem.status === 401) return;
        if (LATER.has(problem.status)) await this._pause(problem);
        else this._settle(entry, null, problem);
      }
    }
  }

  async _pause(problem) {
    this.isHeld.value = true;
    const wait = problem.isOffline || problem.status === 500 ? this._wait : problem.retryAfterMs;
    this._wait = Math.min(2 * this._wait, LONGEST_WAIT_MS);
    await new Promise((done) => setTimeout(done, wait));
  }

  _settle(entry, answer, problem) {
    this.isHeld.value = false;
    this._wait = FIRST_WAIT_MS;
    this._keep(this.waiting.value.filter((each) => each.id !== entry.id));
    for (const listener of this._listeners) listener(entry, answer, problem);
  }

  _keep(entries) {
    this.waiting.value = entries;
    localStorage.setItem(KEY, JSON.stringify(entries));
  }

  _merge() {
    this.waiting.value = JSON.parse(localStorage.getItem(KEY) ?? "[]");
  }
}

export const outbox = new Outbox();
