// Which items of a list are selected: one by one, in ranges, or by what a rectangle touches.

import { signal } from "../html.js";

export class Selection {
  constructor() {
    this.ids = signal(new Set());
    this._anchor = 0;
  }

  get size() {
    return this.ids.value.size;
  }

  has(id) {
    return this.ids.value.has(id);
  }

  toggle(items, at) {
    const next = new Set(this.ids.value);
    if (!next.delete(items[at].id)) next.add(items[at].id);
    this.ids.value = next;
    this._anchor = at;
  }

  // Everything from the item that was touched last to this one, in addition.
  extend(items, at) {
    const [from, to] = [Math.min(this._anchor, at), Math.max(this._anchor, at)];
    this.ids.value = new Set([
      ...this.ids.value, ...items.slice(from, to + 1).map((each) => each.id),
    ]);
  }

  set(ids) {
    this.ids.value = new Set(ids);
  }

  clear() {
    this.ids.value = new Set();
  }
}
