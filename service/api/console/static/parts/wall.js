// A grid of any length: only the rows in sight are in the document, and their nodes are used again.

import { html, useEffect, useLayoutEffect, useRef, useState } from "../html.js";
import { touched, useRectangle } from "./rectangle.js";

const ROWS_BEYOND = 3;
// On a very wide screen, which is looked at from farther away, cells are larger.
const WIDE_PX = 2000;
const WIDE_SCALE = 1.35;
const STEPS = { ArrowLeft: -1, ArrowRight: 1 };

// The cells of a grid, in pixels. min: the least width of a cell. extra: height below its square.
export function layout(width, { min, gap, extra }) {
  const wanted = width > WIDE_PX ? min * WIDE_SCALE : min;
  const least = Math.min(wanted, Math.max(96, (width - 2 * gap) / 3));
  const columns = Math.max(1, Math.floor((width + gap) / (least + gap)));
  const side = (width - gap * (columns - 1)) / columns;
  return { columns, side, height: side + extra, gap };
}

// items: with ids. render(item): the content of a cell. more: reads on, when the end is near.
// selection: makes the cells options of a list box. open(item): what Enter and a double click do.
export function Wall({
  items, render, label, more, selection = null, open = null, min = 160, gap = 12, extra = 0,
}) {
  const ref = useRef();
  const goal = useRef(null);
  const [width, setWidth] = useState(0);
  const [rows, setRows] = useState([0, 8]);
  const [active, setActive] = useState(0);
  const grid = layout(width || 1, { min, gap, extra });
  const pitch = grid.height + gap;

  useLayoutEffect(() => {
    const watch = new ResizeObserver(([entry]) => setWidth(entry.contentRect.width));
    watch.observe(ref.current);
    setWidth(ref.current.clientWidth);
    return () => watch.disconnect();
  }, []);

  useLayoutEffect(() => {
    let frame = 0;
    const look = () => {
      frame = 0;
      const top = ref.current.getBoundingClientRect().top;
      const first = Math.max(0, Math.floor(-top / pitch) - ROWS_BEYOND);
      const last = Math.ceil((innerHeight - top) / pitch) + ROWS_BEYOND;
      setRows((before) => (before[0] === first && before[1] === last ? before : [first, last]));
    };
    const later = () => {
      frame ||= requestAnimationFrame(look);
    };
    look();
    addEventListener("scroll", later, { passive: true });
    addEventListener("resize", later);
    return () => {
      cancelAnimationFrame(frame);
      removeEventListener("scroll", later);
      removeEventListener("resize", later);
    };
  }, [pitch, width]);

  const first = Math.min(rows[0] * grid.columns, items.length);
  const last = Math.min(items.length, rows[1] * grid.columns);
  // As many nodes as fit into sight; a cell that leaves it above comes back below.
  const pool = Math.max(1, (rows[1] - rows[0] + 1) * grid.columns);

  useEffect(() => {
    if (more && rows[1] * grid.columns > items.length - 2 * grid.columns) more();
  }, [rows, items.length, grid.columns, more]);

  // What comes and goes above what is looked at does not move it, and the focus stays on its item.
  const shown = useRef(items);
  useLayoutEffect(() => {
    const former = shown.current;
    shown.current = items;
    if (former === items || !former.length) return;
    const placeOf = (at) => {
      for (let from = at; from < Math.min(former.length, at + 3 * grid.columns); from += 1) {
        const to = items[from]?.id === former[from].id ? from
          : items.findIndex((each) => each.id === former[from].id);
        if (to >= 0) return [from, to];
      }
      return null;
    };
    const focused = Number(ref.current.querySelector(":focus")?.closest("[data-at]")?.dataset.at ?? -1);
    const kept = focused >= 0 && focused < former.length ? placeOf(focused) : null;
    if (kept && kept[0] !== kept[1]) {
      [, goal.current] = kept;
      setActive(kept[1]);
    }
    const { top } = ref.current.getBoundingClientRect();
    if (top >= 0) return;
    const first = Math.min(former.length - 1, Math.ceil(-top / pitch) * grid.columns);
    const place = placeOf(first);
    if (!place) return;
    const [from, to] = place.map((at) => Math.floor(at / grid.columns));
    if (from !== to) scrollBy(0, (to - from) * pitch);
  }, [items]);

  useLayoutEffect(() => {
    if (goal.current === null) return;
    const cell = ref.current.querySelector(`[data-at="${goal.current}"]`);
    if (cell) {
      cell.focus({ preventScroll: true });
      goal.current = null;
    }
  });

  const visit = (at) => {
    const to = Math.max(0, Math.min(items.length - 1, at));
    const top = ref.current.getBoundingClientRect().top + Math.floor(to / grid.columns) * pitch;
    if (top < 120) scrollBy(0, top - 120);
    else if (top + grid.height > innerHeight - 100) scrollBy(0, top + grid.height - innerHeight + 100);
    goal.current = to;
    setActive(to);
    return to;
  };

  const key = (event) => {
    const at = Number(event.target.closest("[data-at]")?.dataset.at ?? -1);
    if (at < 0) return;
    const step = STEPS[event.key]
      ?? { ArrowUp: -grid.columns, ArrowDown: grid.columns }[event.key]
      ?? { PageUp: -3 * grid.columns, PageDown: 3 * grid.columns }[event.key];
    if (step || event.key === "Home" || event.key === "End") {
      const to = visit(step ? at + step : event.key === "Home" ? 0 : items.length - 1);
      if (selection && event.shiftKey) selection.extend(items, to);
    } else if (selection && event.key === " ") {
      selection.toggle(items, at);
    } else if (selection && event.key === "a" && (event.ctrlKey || event.metaKey)) {
      selection.set(items.map((each) => each.id));
    } else if (selection && event.key === "Escape" && selection.size) {
      selection.clear();
    } else if (event.key === "Enter" && open) {
      open(items[at]);
    } else {
      return;
    }
    event.preventDefault();
  };

  const hits = (box) => touched(box, grid, pitch, items.length).map((at) => items[at].id);
  const [band, pointer] = useRectangle(ref, { hits, selection });
  const click = (event) => {
    const at = Number(event.target.closest("[data-at]")?.dataset.at ?? -1);
    if (at < 0) return;
    setActive(at);
    if (!selection) {
      if (open) open(items[at]);
      return;
    }
    if (event.shiftKey) selection.extend(items, at);
    else selection.toggle(items, at);
  };
  const twice = (event) => {
    const at = Number(event.target.closest("[data-at]")?.dataset.at ?? -1);
    if (selection && open && at >= 0) open(items[at]);
  };

  const reachable = active >= first && active < last ? active : first;
  const cells = [];
  for (let at = first; at < last; at += 1) {
    const item = items[at];
    const row = Math.floor(at / grid.columns);
    const place = {
      width: `${grid.side}px`, height: `${grid.height}px`,
      transform: `translate(${(at % grid.columns) * (grid.side + gap)}px, ${row * pitch}px)`,
    };
    const facts = {
      "data-at": at, tabIndex: at === reachable ? 0 : -1,
      "aria-setsize": items.length, "aria-posinset": at + 1,
    };
    cells.push(selection
      ? html`<div key=${at % pool} class="cell" style=${place} ...${facts} role="option"
          aria-selected=${selection.has(item.id)}>${render(item)}</div>`
      : html`<div key=${at % pool} class="cell" style=${place} role="listitem"
          aria-setsize=${items.length} aria-posinset=${at + 1}>
          ${render(item, { "data-at": at, tabIndex: facts.tabIndex })}</div>`);
  }
  const height = Math.max(0, Math.ceil(items.length / grid.columns) * pitch - gap);
  return html`
    <div ref=${ref} class=${`wall ${selection ? "selectable" : ""}`} style=${{ height: `${height}px` }}
      role=${selection ? "listbox" : "list"} aria-multiselectable=${selection ? "true" : undefined}
      aria-label=${label} onKeyDown=${key} onClick=${click} onDblClick=${twice} ...${pointer}>
      ${width > 0 && cells}
      ${band && html`<div class="band" style=${band} role="presentation" />`}
    </div>`;
}
