// The service's metrics, read again and again, as rates and levels over the last minutes.

const LINE = /^(\w+)(?:\{(.*)\})? (\S+)$/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

// Samples of the Prometheus text format: {name, labels, value} each.
export function parse(text) {
  const samples = [];
  for (const line of text.split("\n")) {
    const found = line.startsWith("#") ? null : LINE.exec(line);
    if (!found) continue;
    const labels = Object.fromEntries([...(found[2] ?? "").matchAll(LABEL)].map(([, key, value]) => [key, value]));
    samples.push({ name: found[1], labels, value: Number(found[3]) });
  }
  return samples;
}

const sum = (samples, name, isIts = () => true) => samples
  .filter((each) => each.name === name && isIts(each.labels))
  .reduce((total, each) => total + each.value, 0);

// The quantile of a histogram's growth between two reads, in its unit; null where nothing came.
function quantile(before, after, name, share, isIts) {
  const bounds = new Map();
  for (const [samples, sign] of [[after, 1], [before, -1]]) {
    for (const each of samples) {
      if (each.name !== `${name}_bucket` || !isIts(each.labels)) continue;
      const bound = each.labels.le === "+Inf" ? Infinity : Number(each.labels.le);
      bounds.set(bound, (bounds.get(bound) ?? 0) + sign * each.value);
    }
  }
  const sorted = [...bounds].sort(([one], [other]) => one - other);
  const total = sorted.at(-1)?.[1] ?? 0;
  if (total <= 0) return null;
  let [lower, below] = [0, 0];
  for (const [bound, number] of sorted) {
    if (number >= share * total) {
      if (bound === Infinity) return lower;
      return lower + ((bound - lower) * (share * total - below)) / Math.max(1, number - below);
    }
    [lower, below] = [bound, number];
  }
  return lower;
}

const isWork = (labels) => (labels.route ?? "").startsWith("/v1") || labels.route === "/insert-image";
const isInsert = (labels) => labels.method === "POST" && /images$|images\/batch$|insert-image$/.test(labels.route ?? "");

// What is drawn, of two reads that lie `seconds` apart.
export function derive(before, after, seconds) {
  const rate = (name, isIts) => Math.max(0, sum(after, name, isIts) - sum(before, name, isIts)) / seconds;
  const batches = rate("facette_batch_cost_count");
  const ms = (share) => {
    const found = quantile(before, after, "facette_http_request_seconds", share, isWork);
    return found === null ? null : 1000 * found;
  };
  return {
    requests: rate("facette_http_requests_total", isWork),
    photos: rate("facette_http_requests_total", isInsert),
    p50: ms(0.5),
    p95: ms(0.95),
    waiting: sum(after, "facette_batch_waiting"),
    inFlight: sum(after, "facette_requests_in_flight"),
    batch: batches ? rate("facette_batch_cost_sum") / batches : null,
    refusals: rate("facette_refusals_total"),
    memory: sum(after, "process_resident_memory_bytes") / 1e6,
  };
}

export const facts = (samples) => ({
  version: samples.find((each) => each.name === "facette_build_info")?.labels.version ?? null,
  codeBytes: sum(samples, "facette_face_code_bytes"),
  models: samples.filter((each) => each.name === "facette_model" && each.value === 1).map((each) => each.labels),
  builds: sum(samples, "facette_index_builds_total", (labels) => labels.outcome === "ok"),
});
