// What a person does to people and faces, and the way back of each.

import { call, newKey } from "./api.js";
import { signal } from "./html.js";
import { forget, learn, lose } from "./people.js";
import { ofTenant, session } from "./session.js";
import { tell } from "./toasts.js";
import { words } from "./words.js";
import { ask } from "./parts/dialog.js";

const AT_ONCE = 4;

// Counts changes, so that a page that shows people can read them again.
export const changed = signal(0);

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
  for (const id of ids) {
    await call("POST", ofTenant(`/history/${id}/undo`), { headers: { "Idempotency-Key": newKey() } });
  }
}

// Tells of a change, with undo where the history has it.
// people: to be read again; back: those to be read again once it is taken back.
async function announce(text, kind, isIts, people, { back: returning = people, limit = 1 } = {}) {
  forget(...people);
  changed.value += 1;
  const ids = await newest(kind, isIts, limit);
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
    const workers = Array.from({ length: AT_ONCE }, async () => {
      for (let face = waiting.shift(); face; face = waiting.shift()) {
        try {
          const now = await call("PATCH", ofTenant(`/faces/${face.id}`), {
            json: { person_id: to, override },
          });
          touched.add(now.person_id);
          moved.add(face.id);
        } catch (problem) {
          waiting.unshift(face);
          throw problem;
        }
      }
    });
    const ended = await Promise.allSettled(workers);
    const failed = ended.find((each) => each.status === "rejected");
    if (failed) throw failed.reason;
  };
  try {
    await withLastWord(move);
  } finally {
    if (moved.size) {
      const text = to === null ? words.face.notThis(moved.size) : words.face.moved(moved.size);
      await announce(text, "face.moved", (subject) => moved.has(subject.face_id), [...touched],
        { limit: Math.min(500, 2 * moved.size) });
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

export async function removeImage(id) {
  await call("DELETE", ofTenant(`/images/${id}`));
  changed.value += 1;
  tell(words.photo.deleted);
}
