// Selecting the cells of a grid by a rectangle drawn with the mouse.

import { useLayoutEffect, useRef, useState } from "../html.js";

const LEAST_PX = 6;
const EDGE_PX = 48;
const SCROLL_PX = 18;

// The positions of the cells that a rectangle touches; x and y in pixels of the grid.
export function touched({ left, top, right, bottom }, { columns, side, height, gap }, pitch, length) {
  const found = [];
  const columnPitch = side + gap;
  const firstColumn = Math.max(0, Math.floor((left + gap) / columnPitch));
  const lastColumn = Math.min(columns - 1, Math.floor(right / columnPitch));
  const firstRow = Math.max(0, Math.floor((top + pitch - height) / pitch));
  for (let row = firstRow; row <= Math.floor(bottom / pitch); row += 1) {
    for (let column = firstColumn; column <= lastColumn; column += 1) {
      const at = row * columns + column;
      if (at < length) found.push(at);
    }
  }
  return found;
}

// The ids of the cells in the document that a rectangle touches; for grids that are there as a whole.
export function touchedCells(element, { left, top, right, bottom }) {
  const frame = element.getBoundingClientRect();
  return [...element.querySelectorAll("[data-id]")].filter((cell) => {
    const place = cell.getBoundingClientRect();
    return place.left - frame.left <= right && place.right - frame.left >= left
      && place.top - frame.top <= bottom && place.bottom - frame.top >= top;
  }).map((cell) => cell.dataset.id);
}

// [style of the band or null, handlers of the grid]. hits(box): the ids that a box touches. Fingers
// scroll; they do not draw.
export function useRectangle(ref, { hits, selection }) {
  const [band, setBand] = useState(null);
  const drag = useRef(null);
  const now = useRef();
  now.current = hits;

  const place = (event) => {
    const frame = ref.current.getBoundingClientRect();
    return { x: event.clientX - frame.left, y: event.clientY - frame.top };
  };
  const down = (event) => {
    if (!selection || event.pointerType !== "mouse" || event.button !== 0) return;
    const adds = event.shiftKey || event.ctrlKey || event.metaKey;
    drag.current = { from: place(event), before: adds ? selection.ids.value : new Set(), drawn: false };
  };

  useLayoutEffect(() => {
    if (!selection) return undefined;
    const move = (event) => {
      const started = drag.current;
      if (!started) return;
      const to = place(event);
      const far = Math.hypot(to.x - started.from.x, to.y - started.from.y) > LEAST_PX;
      if (!started.drawn && !far) return;
      started.drawn = true;
      const box = {
        left: Math.min(started.from.x, to.x), right: Math.max(started.from.x, to.x),
        top: Math.min(started.from.y, to.y), bottom: Math.max(started.from.y, to.y),
      };
      setBand({
        left: `${box.left}px`, top: `${box.top}px`,
        width: `${box.right - box.left}px`, height: `${box.bottom - box.top}px`,
      });
      selection.set([...started.before, ...now.current(box)]);
      if (event.clientY < EDGE_PX) scrollBy(0, -SCROLL_PX);
      if (event.clientY > innerHeight - EDGE_PX) scrollBy(0, SCROLL_PX);
    };
    const up = () => {
      const drawn = drag.current?.drawn;
      drag.current = null;
      setBand(null);
      // The click that ends a rectangle is none on the cell beneath.
      if (drawn) addEventListener("click", stop, { capture: true, once: true });
      if (drawn) setTimeout(() => removeEventListener("click", stop, { capture: true }));
    };
    const stop = (event) => event.stopPropagation();
    addEventListener("pointermove", move);
    addEventListener("pointerup", up);
    addEventListener("pointercancel", up);
    return () => {
      removeEventListener("pointermove", move);
      removeEventListener("pointerup", up);
      removeEventListener("pointercancel", up);
    };
  }, [selection]);

  return [band, selection ? { onPointerDown: down } : {}];
}
