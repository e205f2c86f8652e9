// Photos on their way to the service: some at once, each with a result, none sent twice.

import { call, newKey } from "./api.js";
import { computed, signal } from "./html.js";
import { ofTenant, tenant } from "./session.js";

// A browser opens six connections to a service, of which one follows its events.
const AT_ONCE = 3;
const OFFLINE_WAIT_MS = 3000;
const DONE = "facette.uploaded";
const LEFT = "facette.uploading";
const MOST_REMEMBERED = 20_000;
const PHOTO = /\.(jpe?g|png|webp|hei[cf]|avif|tiff?|gif|bmp|dng|nef|cr2|arw|pef|rw2|raf)$/i;
// Answers that say "later", and not "never".
const LATER = new Set([0, 408, 429, 502, 503, 504]);

// A photo of the list. state: waiting, sending, held, stored, known, failed or skipped.
class Upload {
  constructor(file) {
    this.id = newKey();
    this.file = file;
    // Where it goes is settled when it is added: somebody may look at another tenant meanwhile.
    this.tenant = tenant.value;
    this.path = ofTenant("/images");
    this.key = newKey();
    this.state = signal("waiting");
    this.faces = signal(null);
    this.imageId = null;
    this.problem = signal(null);
  }
}

// What was stored before, so that the same folder, dropped again after a reload, goes on.
class Remembered {
  constructor() {
    this._names = new Map(JSON.parse(localStorage.getItem(DONE) ?? "[]"));
    this._timer = null;
  }

  static nameOf({ tenant: id, file }) {
    return [id, file.name, file.size, file.lastModified].join("\n");
  }

  find(upload) {
    return this._names.get(Remembered.nameOf(upload));
  }

  add(upload) {
    this._names.set(Remembered.nameOf(upload), upload.imageId);
    this._timer ??= setTimeout(() => {
      this._timer = null;
      localStorage.setItem(DONE, JSON.stringify([...this._names].slice(-MOST_REMEMBERED)));
    }, 300);
  }
}

class Uploads {
  constructor() {
    this.all = signal([]);
    this.heldUntil = signal(0);
    this.counts = computed(() => {
      const counts = { waiting: 0, sending: 0, held: 0, stored: 0, known: 0, failed: 0, skipped: 0 };
      for (const each of this.all.value) counts[each.state.value] += 1;
      return counts;
    });
    this.isBusy = computed(() => {
      const { waiting, sending, held } = this.counts.value;
      return waiting + sending + held > 0;
    });
    // Of an earlier visit, which ended before all photos were stored: {tenant, left}.
    this.interrupted = signal(JSON.parse(localStorage.getItem(LEFT) ?? "null"));
    this._remembered = new Remembered();
    this._workers = 0;
  }

  add(files) {
    const added = files.map((file) => new Upload(file));
    for (const each of added) {
      const isPhoto = each.file.type.startsWith("image/") || PHOTO.test(each.file.name);
      each.imageId = this._remembered.find(each) ?? null;
      if (!isPhoto) each.state.value = "skipped";
    }
    this.all.value = [...this.all.value, ...added];
    this.interrupted.value = null;
    this._noteLeft();
    this._start();
  }

  retry() {
    for (const each of this.all.value) {
      if (each.state.value === "failed") each.state.value = "waiting";
    }
    this._start();
  }

  clear() {
    const isOver = (each) => !["waiting", "sending", "held"].includes(each.state.value);
    this.all.value = this.all.value.filter((each) => !isOver(each));
  }

  _start() {
    while (this._workers < AT_ONCE) {
      this._workers += 1;
      this._work().finally(() => {
        this._workers -= 1;
      });
    }
  }

  // What a page that is closed now leaves undone.
  _noteLeft() {
    const left = this.all.value.filter((each) => ["waiting", "sending", "held"].includes(each.state.value));
    if (left.length) localStorage.setItem(LEFT, JSON.stringify({ tenant: left[0].tenant, left: left.length }));
    else localStorage.removeItem(LEFT);
  }

  async _work() {
    for (;;) {
      const next = this.all.value.find((each) => each.state.value === "waiting");
      if (!next) return;
      await this._send(next);
      this._noteLeft();
    }
  }

  async _send(upload) {
    // At once, so that no other worker takes it as well.
    upload.state.value = "sending";
    for (;;) {
      await this._hold(upload);
      upload.state.value = "sending";
      try {
        if (upload.imageId && (await isThere(upload))) {
          upload.state.value = "known";
          return;
        }
        const type = upload.file.type || "application/octet-stream";
        const answer = await call("POST", upload.path, {
          query: { on_duplicate: "return" }, body: upload.file,
          headers: { "Content-Type": type, "Idempotency-Key": upload.key },
        });
        upload.imageId = answer.image_id;
        upload.faces.value = answer.faces.length;
        upload.state.value = answer.created ? "stored" : "known";
        this._remembered.add(upload);
        return;
      } catch (problem) {
        if (!LATER.has(problem.status)) {
          upload.problem.value = problem;
          upload.state.value = "failed";
          return;
        }
        const wait = problem.isOffline ? OFFLINE_WAIT_MS : problem.retryAfterMs;
        this.heldUntil.value = Math.max(this.heldUntil.value, Date.now() + wait);
      }
    }
  }

  // Waits until the service takes photos again; all of them wait together.
  async _hold(upload) {
    for (let wait = this.heldUntil.value - Date.now(); wait > 0; wait = this.heldUntil.value - Date.now()) {
      upload.state.value = "held";
      await new Promise((done) => setTimeout(done, wait));
    }
  }
}

// Whether a photo that was stored before is still there: somebody may have deleted it since.
async function isThere(upload) {
  try {
    await call("GET", `${upload.path}/${upload.imageId}`);
    return true;
  } catch (problem) {
    if (problem.status !== 404) throw problem;
    upload.imageId = null;
    return false;
  }
}

export const uploads = new Uploads();

addEventListener("beforeunload", (event) => {
  if (uploads.isBusy.value) event.preventDefault();
});
