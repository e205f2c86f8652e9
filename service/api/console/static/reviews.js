// The questions that a reviewer works through: the next ones at hand, the last ones to take back.

import { call } from "./api.js";
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
const REVIEWER = "facette.reviewer";
const PAST = "facette.past";

// Two windows of one key are two reviewers: each is given questions of its own.
function reviewer() {
  const known = sessionStorage.getItem(REVIEWER) ?? `console-${crypto.randomUUID()}`;
  sessionStorage.setItem(REVIEWER, known);
  return known;
}

// An answered question: {id, question, answer, text, state, changeId}. state: saving, saved, failed,
// stale (somebody else answered it), undoing or undone.
class Reviews {
  constructor() {
    this.questions = signal([]);
    this.past = signal([]);
    this.isLoaded = signal(false);
    this.problem = signal(null);
    this.current = computed(() => this.questions.value[0] ?? null);
    this._tenant = null;
    this._answered = new Set();
    this._timer = null;
    outbox.listen((entry, answer, problem) => this._settled(entry, answer, problem));
  }

  open() {
    if (this._tenant !== tenant.value) {
      this._tenant = tenant.value;
      this._answered = new Set();
      batch(() => {
        this.questions.value = [];
        this.isLoaded.value = false;
        this.past.value = JSON.parse(localStorage.getItem(`${PAST}.${tenant.value}`) ?? "[]");
      });
    }
    return this.load();
  }

  async load() {
    const asked = tenant.value;
    try {
      const found = await call("GET", ofTenant("/reviews/next"), {
        query: { limit: AT_ONCE, lease_s: LEASE_S, reviewer: reviewer() },
      });
      if (asked !== tenant.value) return;
      const open = found.items.filter((each) => !this._isAnswered(each.id));
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

  _isAnswered(id) {
    return this._answered.has(id) || outbox.waiting.value.some((each) => each.reviewId === id);
  }

  // Answers the question on the screen; the next one is there at once. without: {person, faces} each,
  // the faces that do not belong to the person, each split off first.
  answer(reply, text, without = []) {
    const question = this.current.value;
    const facts = { tenant: this._tenant };
    this._answered.add(question.id);
    for (const { person, faces } of without) {
      for (const face of faces) outbox.add(ofTenant(`/people/${person.id}/split`), { face_ids: [face] }, facts);
    }
    const id = outbox.add(ofTenant(`/reviews/${question.id}`), reply, {
      ...facts, reviewId: question.id,
    });
    const undoAt = ofTenant("/history");
    batch(() => {
      this.questions.value = this.questions.value.slice(1);
      this._keep([{ id, question, answer: reply.answer, text, state: "saving", changeId: null, undoAt },
        ...this.past.value].slice(0, MOST_PAST));
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
    const past = this.past.value.find((each) =>
      (id === null ? ["saving", "saved"].includes(each.state) : each.id === id));
    if (!past) return;
    if (outbox.withdraw(past.id)) this._reopen(past);
    else if (past.changeId) this._undo(past, this._tenant);
    else this._mark(this._tenant, past.id, { state: "undoing" });
  }

  _undo(past, tenantId) {
    this._mark(tenantId, past.id, { state: "undoing" });
    outbox.add(`${past.undoAt}/${past.changeId}/undo`, null, { tenant: tenantId, undoes: past.id });
  }

  _reopen(past) {
    this._answered.delete(past.question.id);
    batch(() => {
      this._mark(this._tenant, past.id, { state: "undone" });
      this.questions.value = [past.question,
        ...this.questions.value.filter((each) => each.id !== past.question.id)];
    });
  }

  _settled(entry, answer, problem) {
    const isShown = entry.tenant === this._tenant;
    const past = this._pastOf(entry.tenant).find((each) => each.id === (entry.undoes ?? entry.id));
    if (problem) tell(past ? words.review.notSaved(problem) : words.problem(problem, true), { kind: "wrong" });
    if (past && entry.undoes) {
      if (problem) this._mark(entry.tenant, past.id, { state: "saved" });
      else if (isShown) this._reopen(past);
      else this._mark(entry.tenant, past.id, { state: "undone" });
    } else if (past && problem) {
      const isStale = problem.code === "review_answered";
      this._mark(entry.tenant, past.id, { state: isStale ? "stale" : "failed" });
      // A question whose answer was refused is still open.
      this._answered.delete(past.question.id);
    } else if (past) {
      const isUnwanted = past.state === "undoing";
      this._mark(entry.tenant, past.id, { state: "saved", changeId: answer.id });
      if (isUnwanted) this._undo({ ...past, changeId: answer.id }, entry.tenant);
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

  // The strip of a tenant, also of one that nobody looks at any more.
  _pastOf(tenantId) {
    return tenantId === this._tenant ? this.past.value
      : JSON.parse(localStorage.getItem(`${PAST}.${tenantId}`) ?? "[]");
  }

  _mark(tenantId, id, facts) {
    const changed = this._pastOf(tenantId)
      .map((each) => (each.id === id ? { ...each, ...facts } : each));
    if (tenantId === this._tenant) this._keep(changed);
    else localStorage.setItem(`${PAST}.${tenantId}`, JSON.stringify(changed));
  }

  _keep(past) {
    this.past.value = past;
    localStorage.setItem(`${PAST}.${this._tenant}`, JSON.stringify(past));
  }
}

export const reviews = new Reviews();
