// Line icons on a grid of 24, drawn in the colour of the text beside them.

import { html } from "../html.js";

const PATHS = {
  people: "M9 11a4 4 0 1 0 0-8 4 4 0 0 0 0 8ZM2 21v-1a6 6 0 0 1 6-6h2a6 6 0 0 1 6 6v1M16 3.5a4 4 0 0 1 0 7.2M22 21v-1a6 6 0 0 0-4-5.7",
  review: "M12 3a9 9 0 1 0 9 9M9.3 9.2a2.8 2.8 0 1 1 3.9 2.9c-.8.4-1.2 1-1.2 1.9M12 17h.01M17 5l2 2 3-4",
  photos: "M4 5h16v14H4zM4 16l5-5 4 4 2-2 5 4M15.5 9h.01",
  upload: "M12 16V4M7 9l5-5 5 5M4 16v4h16v-4",
  search: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14ZM16 16l5 5",
  history: "M3 12a9 9 0 1 0 3-6.7L3 8M3 3v5h5M12 7v5l3 2",
  status: "M3 12h4l3-8 4 16 3-8h4",
  keys: "M14.5 14a5 5 0 1 0-4.6-3L3 18v3h4v-2h2v-2h2l1.6-3.4M16 8h.01",
  light: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8ZM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.4 1.4M17.6 17.6 19 19M5 19l1.4-1.4M17.6 6.4 19 5",
  dark: "M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5Z",
  system: "M3 4h18v12H3zM8 20h8M12 16v4",
  out: "M10 4H4v16h6M15 8l4 4-4 4M19 12H9",
  close: "M6 6l12 12M18 6 6 18",
  back: "M15 5l-7 7 7 7",
  next: "M9 5l7 7-7 7",
  edit: "M4 20h4L19 9l-4-4L4 16v4ZM13 7l4 4",
  merge: "M6 3v5c0 4 6 4 6 8v5M18 3v5c0 4-6 4-6 8",
  hide: "M3 3l18 18M10.6 6.2A9.8 9.8 0 0 1 12 6c6 0 9 6 9 6a15 15 0 0 1-2.6 3.3M6.3 7.8A14.6 14.6 0 0 0 3 12s3 6 9 6a9 9 0 0 0 4-1M10 10a3 3 0 0 0 4 4",
  show: "M3 12s3-6 9-6 9 6 9 6-3 6-9 6-9-6-9-6ZM12 15a3 3 0 1 0 0-6 3 3 0 0 0 0 6Z",
  check: "M5 12.5l4.5 4.5L19 7.5",
  no: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18ZM5.6 5.6l12.8 12.8",
  plus: "M12 5v14M5 12h14",
  move: "M4 12h15M13 6l6 6-6 6",
  star: "M12 3.5l2.6 5.4 5.9.8-4.3 4.1 1 5.9L12 16.9l-5.2 2.8 1-5.9-4.3-4.1 5.9-.8z",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 14h10l1-14M10 11v6M14 11v6",
  download: "M12 4v12M7 11l5 5 5-5M4 20h16",
  face: "M4 8V4h4M16 4h4v4M20 16v4h-4M8 20H4v-4M9 10h.01M15 10h.01M9 14.5c1.8 1.7 4.2 1.7 6 0",
  warning: "M12 4 2.5 20h19zM12 10v4M12 17h.01",
  offline: "M3 3l18 18M5 12.5a10 10 0 0 1 4.3-2.6M19 12.5a10 10 0 0 0-3-2M8.5 16a5 5 0 0 1 7 0M12 20h.01M2 9a15 15 0 0 1 4-2.6M22 9A15 15 0 0 0 10 5.2",
  lock: "M6 11h12v10H6zM8.5 11V7.5a3.5 3.5 0 0 1 7 0V11",
  undo: "M8 5 4 9l4 4M4 9h10a6 6 0 0 1 0 12h-3",
  question: "M9.3 9.2a2.8 2.8 0 1 1 3.9 2.9c-.8.4-1.2 1-1.2 1.9M12 17h.01",
};

export const Icon = ({ name, size = 20 }) => html`
  <svg class="icon" width=${size} height=${size} viewBox="0 0 24 24" aria-hidden="true">
    <path d=${PATHS[name]} />
  </svg>`;
