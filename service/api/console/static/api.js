// Calls of the product API, and what went wrong with one.

const LATER = new Set([0, 408, 429, 500, 502, 503, 504]);

// A refused or failed call. `saved` says whether the service may have done what was asked.
export class Problem extends Error {
  constructor(status, body, retryAfter) {
    super(body.detail ?? body.title ?? `HTTP ${status}`);
    this.status = status;
    this.code = body.code ?? "";
    this.body = body;
    this.retryAfterMs = retryAfter;
  }

  get isOffline() {
    return this.status === 0;
  }

  // Whether the same call may succeed later.
  get mayPass() {
    return LATER.has(this.status);
  }

  // Nothing was stored after an answer that refuses; without an answer nobody knows.
  get isUncertain() {
    return this.status === 0 || this.status === 502 || this.status === 504;
  }
}

const LISTENERS = new Set();
const DEFAULT_RETRY_MS = 2000;

// Calls `listener` with each problem that says that the session has ended.
export function onSessionEnd(listener) {
  LISTENERS.add(listener);
}

let reads = new AbortController();

// Gives up what is being read, and reads nothing until `resumeReads`: whoever signs out waits for
// no answers, and none of them is refused meanwhile.
export const stopReads = () => reads.abort();

export function resumeReads() {
  reads = new AbortController();
}

export function withQuery(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

// The body of the answer: an object, or null where there is none.
export async function call(method, path, { query, json, body, headers = {}, signal } = {}) {
  const sent = { ...headers };
  if (json !== undefined) sent["Content-Type"] = "application/json";
  const stop = method === "GET" ? AbortSignal.any([reads.signal, ...(signal ? [signal] : [])]) : signal;
  let answer;
  let told = null;
  try {
    answer = await fetch(withQuery(path, query), {
      method, signal: stop, headers: sent, credentials: "same-origin",
      body: json === undefined ? body : JSON.stringify(json),
    });
    const kind = answer.headers.get("Content-Type") ?? "";
    if (answer.status !== 204) told = kind.includes("json") ? await answer.json() : { detail: await answer.text() };
  } catch (error) {
    if (error.name === "AbortError") throw error;
    // Also an answer that was cut off: nobody knows what it said.
    throw new Problem(0, { code: "offline", detail: "" });
  }
  if (answer.ok) return told;
  const problem = new Problem(answer.status, told, retryAfter(answer));
  if (problem.status === 401 && !path.startsWith("/console/session")) {
    for (const listener of LISTENERS) listener(problem);
  }
  throw problem;
}

function retryAfter(answer) {
  const given = Number(answer.headers.get("Retry-After"));
  return given > 0 ? given * 1000 : DEFAULT_RETRY_MS;
}

// An Idempotency-Key: a request that is sent again with it is done once. Over plain HTTP there is no randomUUID.
export const newKey = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (each) => each.toString(16).padStart(2, "0")).join("");
