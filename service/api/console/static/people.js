// People by id, each read once; names come from here wherever a face is shown.

import { call } from "./api.js";
import { signal } from "./html.js";
import { ofTenant, tenant } from "./session.js";

const known = new Map();

// The signal of a person: undefined until it is read, null where there is none any more.
export function person(id) {
  const key = `${tenant.value}/${id}`;
  if (!known.has(key)) {
    const found = signal(undefined);
    known.set(key, found);
    read(id, found);
  }
  return known.get(key);
}

async function read(id, found) {
  try {
    found.value = await call("GET", ofTenant(`/people/${id}`));
  } catch (problem) {
    if (problem.status === 404 || problem.status === 410) found.value = null;
    else known.delete(`${tenant.value}/${id}`);
  }
}

// Remembers what an answer said of people.
export function learn(...people) {
  for (const each of people) {
    const key = `${tenant.value}/${each.id}`;
    if (known.has(key)) known.get(key).value = each;
    else known.set(key, signal(each));
  }
}

// Remembers that a person is no more.
export function lose(id) {
  const found = known.get(`${tenant.value}/${id}`);
  if (found) found.value = null;
}

// Reads these people again the next time that they are shown.
export function forget(...ids) {
  for (const id of ids) {
    const key = `${tenant.value}/${id}`;
    const found = known.get(key);
    if (found) read(id, found);
  }
}
