// How the service does: counts of the tenant, and its metrics, drawn as they come.

import { call, Problem } from "../api.js";
import { bytes, count } from "../format.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { derive, facts, parse } from "../metrics.js";
import { ofTenant, tenant } from "../session.js";
import { words } from "../words.js";
import { Chart } from "../parts/chart.js";
import { useLoad } from "../parts/load.js";
import { Failure } from "../parts/states.js";

const EVERY_MS = 2000;
const MOST = 150;
const one = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const format = (value) => (value === null || value === undefined ? "–" : one.format(value));

const CHARTS = [
  ["requests", ["requests", "photos"]], ["latency", ["p50", "p95"]], ["queue", ["waiting", "inFlight"]],
  ["batch", ["batch"]], ["refusals", ["refusals"]], ["memory", ["memory"]],
];

async function readMetrics() {
  const read = async () => {
    const answer = await fetch("/metrics");
    return [answer, await answer.text()];
  };
  const [answer, text] = await read().catch(() => []);
  if (!answer) throw new Problem(0, { code: "offline" });
  if (!answer.ok) throw new Problem(answer.status, {});
  return parse(text);
}

export function Page() {
  return html`
    <header class="page-head"><h1>${words.pages.status}</h1></header>
    ${tenant.value && html`<${Counts} />`}
    <${Metrics} />`;
}

function Counts() {
  const { data, problem, reload } = useLoad((signal) => call("GET", ofTenant(), { signal }), [tenant.value]);
  if (problem) return html`<${Failure} problem=${problem} retry=${reload} />`;
  const card = (text, value, limit) => html`
    <div class="stat"><span class="muted">${text}</span>
      <strong>${data ? count(value) : html`<span class="skeleton line" />`}</strong>
      <span class="muted small">${limit ? words.status.ofLimit(count(limit)) : ""}</span></div>`;
  return html`
    <section aria-label=${tenant.value}><h2 class="section">${words.status.tenant(tenant.value)}</h2>
      <div class="stats">
        ${card(words.pages.photos, data?.image_count, data?.max_images)}
        ${card(words.person.tabs.faces, data?.face_count, data?.max_faces)}
        ${card(words.pages.people, data?.person_count)}
      </div></section>`;
}

function Metrics() {
  const [samples, setSamples] = useState([]);
  const [known, setKnown] = useState(null);
  const [problem, setProblem] = useState(null);
  const last = useRef(null);
  useEffect(() => {
    let timer = null;
    let isGone = false;
    const look = async () => {
      try {
        const found = await readMetrics();
        const at = Date.now() / 1000;
        if (isGone) return;
        if (last.current) {
          const sample = { at, ...derive(last.current.found, found, at - last.current.at) };
          setSamples((before) => [...before, sample].slice(-MOST));
        }
        last.current = { at, found };
        setKnown(facts(found));
        setProblem(null);
      } catch (failed) {
        if (failed.status === undefined) throw failed;
        setProblem(failed);
      }
      // A page that nobody sees asks for nothing.
      if (!isGone) timer = setTimeout(look, document.hidden ? 5 * EVERY_MS : EVERY_MS);
    };
    look();
    return () => {
      isGone = true;
      clearTimeout(timer);
    };
  }, []);
  if (problem && !known) {
    return html`<p class="note">${problem.isOffline ? words.problem(problem, false) : words.status.noMetrics}</p>`;
  }
  const times = samples.map((each) => each.at);
  const now = samples.at(-1) ?? {};
  return html`
    <section aria-label=${words.status.service}><h2 class="section">${words.status.service}</h2>
      ${problem && html`<p class="note" role="status">${words.problem(problem, false)}</p>`}
      <div class="charts">
        ${CHARTS.map(([name, lines]) => html`
          <figure key=${name} class="chart-card">
            <figcaption><span>${words.status.charts[name]}</span>
              <span class="chart-now">${lines.map((line, at) => html`<span key=${line} class=${`series-${at}`}>
                ${lines.length > 1 ? `${words.status.series[line]} ` : ""}<b>${format(now[line])}</b></span>`)}</span></figcaption>
            <${Chart} times=${times} format=${format} series=${lines.map((line) => [line, samples.map((each) => each[line])])} />
          </figure>`)}
      </div>
      ${known && html`
        <dl class="facts wide">
          <dt>${words.status.version}</dt><dd>${known.version}</dd>
          <dt>${words.status.models}</dt><dd>${known.models.map((each) => `${each.model} ${each.provider}/${each.precision}`).join(", ")}</dd>
          <dt>${words.status.index}</dt><dd>${words.status.indexText(bytes(known.codeBytes), count(known.builds))}</dd>
        </dl>`}
    </section>`;
}
