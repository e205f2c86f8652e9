// What a person does to people and faces, and the way back of each.

import { call, newKey } from "./api.js";
import { changed } from "./live.js";
import { forget, learn, lose } from "./people.js";
import { ofTenant, session } from "./session.js";
import { tell } from "./toasts.js";
import { words } from "./words.js";
import { ask } from "./parts/dialog.js";

const AT_ONCE = 4;
// Of the entries of the history in one answer.
const MOST_LISTED = 500;

export { changed };

// Runs a change; where a person decided otherwise before, asks and lets this be the last word.
async function withLastWord(run) {
  try {
    return await run(false);
  } catch (problem) {
    if (problem.code !== "decision_conflict") throw problem;
    const isSure = await ask({
      title: words.conflict.title, text: problem.message, confirm: words.conflict.confirm,
    });
    if (!isSure) throw problem;
    return run(true);
  }
}

// The changes of the history that this session just made, newest first.
async function newest(kind, isIts, limit) {
  const page = await call("GET", ofTenant("/history"), { query: { kind, limit } });
  const mine = page.items.filter((each) =>
    each.key_id === session.value.key_id && each.undoable && isIts(each.subject));
  return mine.map((each) => each.id);
}

export async function undo(ids) {
  let done = 0;
  try {
    for (const id of ids) {
      await call("POST", ofTenant(`/history/${id}/undo`), { headers: { "Idempotency-Key": newKey() } });
      done += 1;
    }
  } catch (problem) {
    throw behind(done, problem);
  }
}

// What stopped a change of several parts, of which some may be saved.
const behind = (done, problem) => Object.assign(problem, { isPartly: done > 0 });

// Tells of a change, with undo where the history has it.
// people: to be read again; back: those to be read again once it is taken back.
const announce = (text, kind, isIts, people, { back = people, limit = 1 } = {}) =>
  announceAll(text, [{ kind, isIts, limit }], people, back);

// The same for changes of several kinds: {kind, isIts, limit} each, the last ones first.
async function announceAll(text, changes, people, returning) {
  forget(...people);
  changed.value += 1;
  let ids = [];
  try {
    for (const { kind, isIts, limit = 1 } of changes) {
      ids.push(...await newest(kind, isIts, Math.min(MOST_LISTED, limit)));
    }
  } catch (problem) {
    if (problem.status === undefined && problem.name !== "AbortError") throw problem;
    // The change is saved all the same; half of it is not taken back.
    ids = [];
  }
  const back = async () => {
    await attempt(async () => {
      await undo(ids);
      forget(...returning);
      changed.value += 1;
      tell(words.undone);
    });
  };
  tell(text, { action: ids.length ? { label: words.undo, run: back } : null });
}

// Runs an action; what goes wrong is told, with whether it was saved. True where nothing did.
export async function attempt(run) {
  try {
    await run();
    return true;
  } catch (problem) {
    if (problem.name === "AbortError") return false;
    if (problem.status === undefined) throw problem;
    // Somebody else was faster: show what is there now.
    if (problem.status === 412) changed.value += 1;
    tell(words.problem(problem, true), { kind: "wrong" });
    return false;
  }
}

export async function mergePeople(from, into, text = words.person.merged) {
  const kept = await withLastWord((override) => call("POST", ofTenant(`/people/${from}/merge`), {
    json: { into, override }, headers: { "Idempotency-Key": newKey() },
  }));
  learn(kept);
  lose(from);
  await announce(text, "person.merged",
    (subject) => subject.merged_person_id === from, [into], { back: [from, into] });
}

// Several people into one, which gets the name that is given.
export async function mergeAll(people, kept, label = kept.label) {
  const others = people.filter((each) => each.id !== kept.id);
  const gone = new Set();
  let now = kept;
  let isNamed = false;
  try {
    for (const each of others) {
      now = await withLastWord((override) => call("POST", ofTenant(`/people/${each.id}/merge`), {
        json: { into: kept.id, override }, headers: { "Idempotency-Key": newKey() },
      }));
      gone.add(each.id);
      learn(now);
      lose(each.id);
    }
    if (label !== now.label) {
      learn(await call("PATCH", ofTenant(`/people/${kept.id}`), {
        json: { label }, headers: { "If-Match": `"${now.version}"` },
      }));
      isNamed = true;
    }
  } catch (problem) {
    throw behind(gone.size, problem);
  } finally {
    if (gone.size || isNamed) {
      const text = gone.size ? words.person.mergedAll(gone.size + 1) : words.person.renamed;
      const changes = [
        ...(isNamed ? [{ kind: "person.changed", isIts: (subject) => subject.person_id === kept.id }] : []),
        ...(gone.size ? [{ kind: "person.merged", isIts: (subject) => gone.has(subject.merged_person_id), limit: 4 * gone.size }] : []),
      ];
      await announceAll(text, changes, [kept.id], [kept.id, ...gone]);
    }
  }
}

// Hides people from the wall, or shows them again.
export async function hideAll(people, hidden) {
  const done = new Set();
  try {
    for (const each of people) {
      learn(await call("PATCH", ofTenant(`/people/${each.id}`), {
        json: { hidden }, headers: { "If-Match": `"${each.version}"` },
      }));
      done.add(each.id);
    }
  } catch (problem) {
    throw behind(done.size, problem);
  } finally {
    if (done.size) {
      const text = hidden ? words.people.nowHidden(done.size) : words.people.shownAgain(done.size);
      const changes = [{ kind: "person.changed", isIts: (subject) => done.has(subject.person_id), limit: 4 * done.size }];
      await announceAll(text, changes, [...done], [...done]);
    }
  }
}

// A person whose faces these are not, and they of somebody new.
export async function splitPerson(id, faceIds, fields = {}) {
  const made = await withLastWord((override) => call("POST", ofTenant(`/people/${id}/split`), {
    json: { face_ids: faceIds, override, ...fields }, headers: { "Idempotency-Key": newKey() },
  }));
  learn(made);
  await announce(words.person.split(faceIds.length), "person.split",
    (subject) => Object.values(subject).includes(made.id), [id, made.id]);
  return made;
}

// to: the id of a person, "new", or null for "not this person".
export async function moveFaces(faces, to) {
  const waiting = [...faces];
  const touched = new Set(faces.map((each) => each.person_id));
  const moved = new Set();
  const move = async (override) => {
    const refused = [];
    const workers = Array.from({ length: AT_ONCE }, async () => {
      for (let face = waiting.shift(); face; face = waiting.shift()) {
        try {
          const now = await call("PATCH", ofTenant(`/faces/${face.id}`), {
            json: { person_id: to, override },
          });
          touched.add(now.person_id);
          moved.add(face.id);
        } catch (problem) {
          refused.push(face);
          throw problem;
        }
      }
    });
    const ended = await Promise.allSettled(workers);
    // Not before all are through: another worker would send them again.
    waiting.unshift(...refused);
    const failed = ended.find((each) => each.status === "rejected");
    if (failed) throw failed.reason;
  };
  try {
    await withLastWord(move);
  } catch (problem) {
    throw behind(moved.size, problem);
  } finally {
    if (moved.size) {
      const text = to === null ? words.face.notThis(moved.size) : words.face.moved(moved.size);
      await announce(text, "face.moved", (subject) => moved.has(subject.face_id), [...touched],
        { limit: 2 * moved.size });
    }
  }
}

// Changes what is said about a person; two editors do not overwrite each other.
export async function editPerson(found, fields, text) {
  const now = await call("PATCH", ofTenant(`/people/${found.id}`), {
    json: fields, headers: { "If-Match": `"${found.version}"` },
  });
  learn(now);
  await announce(text, "person.changed", (subject) => subject.person_id === found.id, [found.id]);
  return now;
}

export async function confirmFaces(id, faceIds = []) {
  const now = await call("POST", ofTenant(`/people/${id}/confirm`), {
    json: { face_ids: faceIds }, headers: { "Idempotency-Key": newKey() },
  });
  learn(now);
  await announce(words.person.confirmed, "person.confirmed",
    (subject) => subject.person_id === id, [id]);
}

// Answers a question outside of the queue.
export async function answerQuestion(id, reply, text, people) {
  const change = await withLastWord((override) => call("POST", ofTenant(`/reviews/${id}`), {
    json: { ...reply, override }, headers: { "Idempotency-Key": newKey() },
  }));
  await announce(text, "review.answered", (subject) => subject.review_id === change.subject.review_id, people,
    { limit: 10 });
}

export async function removeImage(id) {
  await call("DELETE", ofTenant(`/images/${id}`));
  changed.value += 1;
  tell(words.photo.deleted);
}
