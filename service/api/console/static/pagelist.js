// A list of the API that is read page by page, as far as somebody scrolls.

import { call } from "./api.js";
import { batch, signal } from "./html.js";

const MOST_AT_ONCE = 500;
// Of a longer list the beginning is read again; what is behind it stays as it was read.
const MOST_REFRESHED = 1000;

export class PageList {
  constructor(path, query = {}, limit = 100) {
    this.path = path;
    this.query = { ...query, limit };
    this.items = signal([]);
    this.isComplete = signal(false);
    this.isLoading = signal(false);
    this.problem = signal(null);
    this._cursor = undefined;
    this._isRefreshing = false;
    this._isWanted = false;
    this._isStale = false;
    this._stop = new AbortController();
  }

  // Reads the next page, unless one is on its way; after a problem, the same page again.
  async more() {
    if (this._isRefreshing) this._isWanted = true;
    if (this._isRefreshing || this.isLoading.value || this.isComplete.value) return;
    this.isLoading.value = true;
    this.problem.value = null;
    try {
      const query = { ...this.query, cursor: this._cursor };
      const page = await call("GET", this.path, { query, signal: this._stop.signal });
      batch(() => {
        // While data changes, an item may come a second time: it has moved along the order.
        const known = new Set(this.items.value.map((each) => each.id));
        this.items.value = [...this.items.value, ...page.items.filter((each) => !known.has(each.id))];
        this._cursor = page.next ?? undefined;
        this.isComplete.value = !page.next;
      });
    } catch (problem) {
      if (problem.name !== "AbortError") this.problem.value = problem;
    } finally {
      this.isLoading.value = false;
      this._goOn();
    }
  }

  // Does what was asked for while something else was read.
  _goOn() {
    if (this._stop.signal.aborted) return;
    if (this._isStale) this.refresh();
    else if (this._isWanted) {
      this._isWanted = false;
      this.more();
    }
  }

  // Reads again what was read, in place: whoever looks at it keeps place and selection.
  async refresh() {
    if (this._isRefreshing || this.isLoading.value) {
      this._isStale = true;
      return;
    }
    this._isStale = false;
    this._isRefreshing = true;
    try {
      const before = this.items.value;
      const wanted = Math.min(MOST_REFRESHED, Math.max(before.length, this.query.limit));
      const found = [];
      let cursor;
      do {
        const limit = Math.min(MOST_AT_ONCE, wanted - found.length);
        const page = await call("GET", this.path, {
          query: { ...this.query, limit, cursor }, signal: this._stop.signal,
        });
        found.push(...page.items);
        cursor = page.next ?? undefined;
      } while (cursor && found.length < wanted);
      const known = new Set(found.map((each) => each.id));
      const isWhole = !cursor || before.length <= wanted;
      batch(() => {
        this.items.value = isWhole ? found
          : [...found, ...before.slice(endOf(before.slice(0, wanted), found)).filter((each) => !known.has(each.id))];
        if (isWhole) {
          this._cursor = cursor;
          this.isComplete.value = !cursor;
        }
        this.problem.value = null;
      });
    } catch (problem) {
      // What is shown stays; the next change tries again.
      if (problem.name !== "AbortError" && problem.status === undefined) throw problem;
    } finally {
      this._isRefreshing = false;
      this._goOn();
    }
  }

  close() {
    this._stop.abort();
  }
}

// Up to where a beginning was read again: new items push the last ones of it out of what was read. Items that came from
// elsewhere are passed over.
function endOf(beginning, found) {
  const at = new Map(beginning.map((each, position) => [each.id, position + 1]));
  return at.get(found.findLast((each) => at.has(each.id))?.id) ?? 0;
}
