// The faces of people that questions are about: read once, the least sure ones first.

import { call } from "../api.js";
import { signal } from "../html.js";
import { ofTenant } from "../session.js";

const MOST_AT_ONCE = 500;
const MOST_KEPT = 300;
// After a refusal they are asked for again, each time after twice as long.
const FIRST_WAIT_MS = 5000;
const LONGEST_WAIT_MS = 60_000;
const read = new Map();

// A person's faces as far as they are read. faces: null until the first ones are there.
class FacesOf {
  constructor(person, most) {
    this.faces = signal(null);
    this._path = ofTenant(`/people/${person.id}/faces`);
    this._limit = Math.min(MOST_AT_ONCE, most);
    this._cursor = undefined;
    this._cover = person.cover_face_id;
    this._isReading = false;
    this._timer = null;
    this._wait = FIRST_WAIT_MS;
    this.more();
  }

  // Reads further ones, where there are any: behind those that are known, and sorted among themselves.
  async more() {
    if (this._isReading || this._cursor === null) return;
    clearTimeout(this._timer);
    this._isReading = true;
    try {
      const page = await call("GET", this._path, { query: { limit: this._limit, cursor: this._cursor } });
      const before = this._cursor === undefined ? [] : this.faces.value;
      const sorted = page.items.sort((one, other) => (other.distance ?? -1) - (one.distance ?? -1));
      this._cursor = page.next;
      this._wait = FIRST_WAIT_MS;
      this.faces.value = [...before, ...sorted];
    } catch (problem) {
      if (problem.name === "AbortError") {
        // Whoever signed out meanwhile asks anew.
        for (const [key, each] of read) if (each === this) read.delete(key);
        return;
      }
      if (problem.status === undefined) throw problem;
      // Meanwhile the cover stands for the person. Whoever shows it is drawn again at once, and must find this.
      this.faces.value ??= this._cover ? [{ id: this._cover }] : [];
      if (!problem.mayPass) return;
      this._timer = setTimeout(() => this.more(), this._wait);
      this._wait = Math.min(2 * this._wait, LONGEST_WAIT_MS);
    } finally {
      this._isReading = false;
    }
  }
}

export function facesOf(person, most) {
  const key = `${ofTenant()} ${person.id} ${person.face_count} ${most}`;
  if (!read.has(key)) {
    read.set(key, new FacesOf(person, most));
    if (read.size > MOST_KEPT) read.delete(read.keys().next().value);
  }
  return read.get(key);
}
