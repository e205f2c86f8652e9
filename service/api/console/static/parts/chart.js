// A small chart of the last minutes, drawn by uPlot in the colours of the theme.

import { clock } from "../format.js";
import { html, useEffect, useRef } from "../html.js";
import { theme } from "../theme.js";

const HEIGHT = 120;
const SPAN_S = 300;

let library = null;
const load = () => {
  library ??= import("../vendor/uplot.js");
  return library;
};

const colour = (element, name) => getComputedStyle(element).getPropertyValue(name).trim();

// times: Unix seconds. series: [label, values] each; null is a gap.
export function Chart({ times, series, format }) {
  const ref = useRef();
  const plot = useRef(null);
  const data = [times, ...series.map(([, values]) => values)];
  useEffect(() => {
    let isGone = false;
    const watch = new ResizeObserver(([entry]) =>
      plot.current?.setSize({ width: entry.contentRect.width, height: HEIGHT }));
    load().then(({ default: UPlot }) => {
      if (isGone) return;
      const probe = ref.current;
      const resolved = (name) => {
        probe.style.color = `var(${name})`;
        return colour(probe, "color");
      };
      const [muted, line] = [resolved("--muted"), resolved("--line")];
      const strokes = [resolved("--accent"), resolved("--second")];
      probe.style.color = "";
      const axis = { stroke: muted, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
      plot.current = new UPlot({
        width: probe.clientWidth, height: HEIGHT, cursor: { y: false, points: { show: false } },
        legend: { show: false }, padding: [8, 8, 0, 0],
        scales: { x: { range: (_, low, high) => (high ? [high - SPAN_S, high] : [0, SPAN_S]) }, y: { range: (_, low, high) => [0, Math.max(high * 1.1, 1)] } },
        axes: [{ ...axis, size: 24, space: 90, grid: { show: false }, values: (plotted, ticks) => ticks.map((each) => (plotted.data[0].length ? clock(each) : "")) },
          { ...axis, size: 48, values: (_, ticks) => ticks.map(format) }],
        series: [{}, ...series.map(([label], at) => ({ label, stroke: strokes[at], width: 2, points: { show: false } }))],
      }, data, probe);
      watch.observe(probe);
    });
    return () => {
      isGone = true;
      watch.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [theme.value]);
  useEffect(() => {
    plot.current?.setData(data);
  }, [times.at(-1), times.length]);
  return html`<div ref=${ref} class="chart" aria-hidden="true" />`;
}
