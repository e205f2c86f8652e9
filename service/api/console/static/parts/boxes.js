// Faces drawn over a photo, in shares of its size, so that they fit at any scale.

import { html } from "../html.js";

const share = (part, whole) => `${(100 * part) / whole}%`;

// width, height: of the photo in the pixels of the boxes. render(face): what stands at the box.
export const Boxes = ({ width, height, faces, chosen, choose, label, render }) => html`
  <div class="boxes">
    ${faces.map((face, at) => {
      const { x1, y1, x2, y2 } = face.box;
      const style = {
        left: share(x1, width), top: share(y1, height),
        width: share(x2 - x1, width), height: share(y2 - y1, height),
      };
      const key = face.id ?? at;
      return html`
        <button key=${key} class=${`box ${chosen === key ? "chosen" : ""}`} style=${style} aria-label=${label(face)}
          aria-pressed=${chosen === key} onClick=${() => choose(key)} onMouseEnter=${() => choose(key)}>
          <span class="box-name">${render(face)}</span>
        </button>`;
    })}
  </div>`;
