// The questions that a reviewer works through: the next ones at hand, the last ones to take back.

import { call, newKey } from "./api.js";
import { batch, computed, signal } from "./html.js";
import { outbox } from "./outbox.js";
import { forget } from "./people.js";
import { ofTenant, session, tenant } from "./session.js";
import { tell } from "./toasts.js";
import { words } from "./words.js";

// As many as are answered in a minute or two: they are kept from other reviewers meanwhile.
const AT_ONCE = 30;
const LEASE_S = 900;
const LOW = 10;
const REFRESH_MS = 600;
const MOST_PAST = 20;
// As long as the page that was here before may take to let its name go.
const LEAVING_MS = 3000;
const REVIEWER = "facette.reviewer";
const PAST = "facette.past.";

// Two windows of one key are two reviewers: each is given questions of its own. One that is loaded again is the same
// reviewer; the copy of a tab, which has a copy of its storage, is another one.
let own = null;
function reviewer() {
  own ??= named();
  return own;
}

async function named() {
  let name = sessionStorage.getItem(REVIEWER);
  if (!name || !await hold(name)) {
    name = `console-${newKey()}`;
    sessionStorage.setItem(REVIEWER, name);
    await hold(name);
  }
  return name;
}

// Keeps a name for as long as this window lives; false where another window has it. Without locks, over plain HTTP,
// nobody knows.
function hold(name) {
  if (!navigator.locks) return true;
  return new Promise((done) => {
    navigator.locks.request(name, { signal: AbortSignal.timeout(LEAVING_MS) }, () => {
      done(true);
      return new Promise(() => {});
    }).catch(() => done(false));
  });
}

// An answered question: {id, question, answer, text, state, undo}. state: saving, saved, failed, stale (somebody else
// answered it), undoing or undone. undo: the steps that take the answer back, once it is saved. The strip of these is
// kept in the browser, and all of its windows show the same one.
class Reviews {
  constructor() {
    this.questions = signal([]);
    this.past = signal([]);
    this.isLoaded = signal(false);
    this.problem = signal(null);
    this.current = computed(() => this.questions.value[0] ?? null);
    this._tenant = null;
    // When each question was settled, Infinity while its answer is on its way.
    this._answered = new Map();
    this._now = 0;
    this._timer = null;
    outbox.listen((entry, problem) => this._settled(entry, problem));
    addEventListener("storage", (event) => {
      if (event.key === PAST + this._tenant) this.past.value = pastOf(this._tenant);
    });
  }

  open() {
    if (this._tenant !== tenant.value) {
      this._tenant = tenant.value;
      batch(() => {
        this.questions.value = [];
        this.isLoaded.value = false;
        this.past.value = pastOf(tenant.value);
      });
    }
    return this.load();
  }

  async load() {
    const asked = tenant.value;
    const name = await reviewer();
    if (asked !== tenant.value) return;
    const began = ++this._now;
    try {
      const found = await call("GET", ofTenant("/reviews/next"), {
        query: { limit: AT_ONCE, lease_s: LEASE_S, reviewer: name },
      });
      if (asked !== tenant.value) return;
      const open = found.items.filter((each) => !this._isAnswered(each.id, began));
      batch(() => {
        // The question on the screen stays there while it is open: nobody answers one unseen.
        const shown = open.find((each) => each.id === this.current.value?.id);
        this.questions.value = shown ? [shown, ...open.filter((each) => each !== shown)] : open;
        this.problem.value = null;
        this.isLoaded.value = true;
      });
    } catch (problem) {
      if (problem.name === "AbortError") return;
      if (problem.status === undefined) throw problem;
      this.problem.value = problem;
    }
  }

  // A question that is there again after its answer was settled is open again.
  _isAnswered(id, began) {
    return this._answered.get(id) > began || outbox.waiting.value.some((each) => each.reviewId === id);
  }

  // Answers a question; the next one is there at once. without: {person, faces} each, the faces that do not belong to
  // the person, each split off first.
  answer(question, reply, text, without = []) {
    if (this._tenant !== tenant.value || !this.questions.value.some((each) => each.id === question.id)) {
      tell(words.review.settledMeanwhile, { kind: "wrong" });
      return;
    }
    this._answered.set(question.id, Infinity);
    const splits = without.flatMap(({ person, faces }) => faces.map((face) => (
      { path: ofTenant(`/people/${person.id}/split`), json: { face_ids: [face] } })));
    const id = outbox.add([...splits, { path: ofTenant(`/reviews/${question.id}`), json: reply }], {
      tenant: this._tenant, reviewId: question.id, history: ofTenant("/history"),
    });
    batch(() => {
      this.questions.value = this.questions.value.filter((each) => each.id !== question.id);
      this._keep(this._tenant, [{ id, question, answer: reply.answer, text, state: "saving" },
        ...pastOf(this._tenant)].slice(0, MOST_PAST));
    });
    if (this.questions.value.length < LOW) this.refreshSoon();
  }

  // Puts the question on the screen behind the others, without an answer.
  skip() {
    const [first, ...others] = this.questions.value;
    if (others.length) this.questions.value = [...others, first];
  }

  // Takes an answer back; without an id the last one that stands.
  takeBack(id = null) {
    const past = pastOf(this._tenant).find((each) =>
      (id === null ? ["saving", "saved"].includes(each.state) : each.id === id));
    if (!past) return;
    if (outbox.withdraw(past.id)) this._reopen(past);
    else if (past.undo) this._undo(past, this._tenant);
    // The window that sends the answer takes it back.
    else this._mark(this._tenant, past.id, { state: "undoing" });
  }

  _undo(past, tenantId) {
    this._mark(tenantId, past.id, { state: "undoing" });
    outbox.add(past.undo, { tenant: tenantId, undoes: past.id });
  }

  _reopen(past) {
    this._answered.delete(past.question.id);
    batch(() => {
      this._mark(this._tenant, past.id, { state: "undone" });
      this.questions.value = [past.question,
        ...this.questions.value.filter((each) => each.id !== past.question.id)];
    });
  }

  _settled(entry, problem) {
    const isShown = entry.tenant === this._tenant;
    const past = pastOf(entry.tenant).find((each) => each.id === (entry.undoes ?? entry.id));
    if (problem) tell(words.review[entry.reviewId ? "notSaved" : "notTakenBack"](problem), { kind: "wrong" });
    if (entry.reviewId) this._answered.set(entry.reviewId, ++this._now);
    const undo = entry.history && undoOf(entry);
    if (past && entry.undoes) {
      // The answer itself is taken back first.
      if (!entry.made.length) this._mark(entry.tenant, past.id, { state: "saved" });
      else if (isShown) this._reopen(past);
      else this._mark(entry.tenant, past.id, { state: "undone" });
    } else if (problem) {
      const isStale = problem.code === "review_answered";
      if (past) this._mark(entry.tenant, past.id, { state: isStale ? "stale" : "failed" });
      // Nothing of an answer that was refused stays.
      if (undo?.length) outbox.add(undo, { tenant: entry.tenant });
    } else if (past) {
      this._mark(entry.tenant, past.id, { state: "saved", undo });
      if (past.state === "undoing") this._undo({ ...past, undo }, entry.tenant);
    }
    if (!isShown) return;
    if (past) forget(...past.question.people.map((each) => each.id));
    // An answer may settle other questions, and change those that stay.
    this.refreshSoon();
  }

  // Once the answers are saved, unless the questions at hand run out before.
  refreshSoon() {
    if (this._timer !== null) return;
    this._timer = setTimeout(() => {
      this._timer = null;
      if (outbox.waiting.value.length && this.questions.value.length >= LOW) this.refreshSoon();
      else if (this._tenant === tenant.value && session.value) this.load();
    }, REFRESH_MS);
  }

  _mark(tenantId, id, facts) {
    this._keep(tenantId, pastOf(tenantId).map((each) => (each.id === id ? { ...each, ...facts } : each)));
  }

  _keep(tenantId, past) {
    localStorage.setItem(PAST + tenantId, JSON.stringify(past));
    if (tenantId === this._tenant) this.past.value = past;
  }
}

// The strip of a tenant, also of one that nobody looks at any more.
const pastOf = (tenantId) => JSON.parse(localStorage.getItem(PAST + tenantId) ?? "[]");

// What takes back the steps of an entry that were done, the last one first.
function undoOf({ steps, made, history }) {
  return made.map((id, at) => (at < steps.length - 1 ? { path: history, unsplit: id } : { path: `${history}/${id}/undo` }))
    .reverse();
}

export const reviews = new Reviews();
