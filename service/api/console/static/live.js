// What happens in the tenant, as the service tells it: pages read again what they show.

import { call } from "./api.js";
import { effect, signal } from "./html.js";
import { ofTenant, session, tenant } from "./session.js";
import { words } from "./words.js";

const SOON_MS = 300;
// While photos come in one after the other, pages are read again this often.
const AT_MOST_EVERY_MS = 2000;
const AGAIN_MS = 10_000;
// Questions are also found without anything that happens.
const COUNT_EVERY_MS = 60_000;
const MOST_COUNTED = 99;

// Counts changes, of this browser and of others, so that a page can read again what it shows.
export const changed = signal(0);

// The open questions of the tenant, at most one more than are counted; null until they are known.
export const openQuestions = signal(null);
export const isBeyondCount = (number) => number > MOST_COUNTED;

// Follows the events of one tenant while the page is in sight: a browser has few connections.
class Live {
  constructor() {
    this._source = null;
    this._followed = null;
    this._last = null;
    this._timer = null;
    this._told = 0;
    this._again = null;
    this._counting = null;
    effect(() => this._follow(session.value ? tenant.value : null));
    document.addEventListener("visibilitychange", () => this._resume());
    setInterval(() => this._count(), COUNT_EVERY_MS);
  }

  _follow(id) {
    if (id === this._followed) return;
    this._close();
    this._followed = id;
    this._last = null;
    openQuestions.value = null;
    // The page that is opened comes first.
    setTimeout(() => this._open(), SOON_MS);
  }

  _resume() {
    if (document.hidden) {
      this._close();
    } else {
      this._open();
    }
  }

  _open() {
    clearTimeout(this._again);
    if (!this._followed || this._source || document.hidden) return;
    const after = this._last === null ? "" : `?after=${this._last}`;
    const source = new EventSource(ofTenant("/events") + after);
    const happened = (event) => {
      this._last = event.lastEventId || this._last;
      this._tellSoon();
    };
    for (const kind of Object.keys(words.history.kinds)) source.addEventListener(kind, happened);
    // What happened before the first event has no number to go on from: pages read it once more.
    source.onopen = () => this._last === null && this._tellSoon();
    // The browser connects again by itself, from the last event on, unless it was refused.
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED || source !== this._source) return;
      this._source = null;
      this._again = setTimeout(() => this._resume(), AGAIN_MS);
    };
    this._source = source;
  }

  _close() {
    clearTimeout(this._again);
    this._source?.close();
    this._source = null;
  }

  _tellSoon() {
    if (this._timer !== null) return;
    const wait = Math.max(SOON_MS, this._told + AT_MOST_EVERY_MS - Date.now());
    this._timer = setTimeout(() => {
      this._timer = null;
      this._told = Date.now();
      if (!this._followed) return;
      changed.value += 1;
      this._count();
    }, wait);
  }

  async _count() {
    const id = this._followed;
    if (!id || document.hidden || this._counting === id) return;
    this._counting = id;
    try {
      const page = await call("GET", ofTenant("/reviews"), { query: { limit: MOST_COUNTED + 1 } });
      if (id === this._followed) openQuestions.value = page.items.length;
    } catch (problem) {
      if (problem.status === undefined && problem.name !== "AbortError") throw problem;
    } finally {
      this._counting = null;
    }
  }
}

export const live = new Live();
