// A list of the API that is read page by page, as far as somebody scrolls.

import { call } from "./api.js";
import { batch, signal } from "./html.js";

export class PageList {
  constructor(path, query = {}, limit = 100) {
    this.path = path;
    this.query = { ...query, limit };
    this.items = signal([]);
    this.isComplete = signal(false);
    this.isLoading = signal(false);
    this.problem = signal(null);
    this._cursor = undefined;
    this._stop = new AbortController();
  }

  // Reads the next page, unless one is on its way; after a problem, the same page again.
  async more() {
    if (this.isLoading.value || this.isComplete.value) return;
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
    }
  }

  drop(ids) {
    const gone = new Set(ids);
    this.items.value = this.items.value.filter((each) => !gone.has(each.id));
  }

  put(item) {
    this.items.value = this.items.value.map((each) => (each.id === item.id ? item : each));
  }

  close() {
    this._stop.abort();
  }
}
