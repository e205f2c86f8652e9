// A wall of photos, newest first, with a heading for each month.

import { day, month } from "../format.js";
import { html, useCallback, useMemo } from "../html.js";
import { address } from "../router.js";
import { mayWrite, thumbnailUrl } from "../session.js";
import { words } from "../words.js";
import { Listed, useList } from "./list.js";
import { Picture } from "./picture.js";
import { Empty } from "./states.js";
import { Wall } from "./wall.js";

const timeOf = (image, order) => (order === "taken" ? image.taken_at : image.created_at);

// Runs of photos of one month: [month, photos] each.
function byMonth(images, order) {
  const runs = [];
  for (const image of images) {
    const name = month(timeOf(image, order));
    if (runs.at(-1)?.[0] === name) runs.at(-1)[1].push(image);
    else runs.push([name, [image]]);
  }
  return runs;
}

// query.order: created or taken.
export function PhotoWall({ path, query }) {
  const list = useList(path, query, [path, JSON.stringify(query)]);
  const more = useCallback(() => list.more(), [list]);
  const items = list.items.value;
  const runs = useMemo(() => byMonth(items, query.order), [items]);
  const empty = html`
    <${Empty} icon="photos" title=${words.photo.none} text=${query.order === "taken" ? words.photo.noneTaken : words.photo.noneText}>
      ${mayWrite.value && html`<a class="button primary" href=${address("upload")}>${words.pages.upload}</a>`}<//>`;
  return html`
    <${Listed} list=${list} skeleton=${{ count: 24, className: "photo-tile" }} empty=${empty}>
      ${() => runs.map(([name, images], at) => html`
        <section key=${`${name} ${at}`} class="month" aria-label=${name}>
          <h2>${name}</h2>
          <${Wall} items=${images} label=${words.photo.ofMonth(name)} more=${at === runs.length - 1 ? more : null} min=${180} gap=${6}
            render=${(image, attributes) => html`
              <a class="photo-card" href=${address("photo", { id: image.id })} ...${attributes}>
                <${Picture} fallback="photos" src=${image.has_file && thumbnailUrl(image.id)} alt=${words.photo.from(day(timeOf(image, query.order)), image.face_count)} />
                ${image.face_count > 0 && html`<span class="photo-faces" aria-hidden="true">${image.face_count}</span>`}
              </a>`} />
        </section>`)}
    <//>`;
}

// The order of a wall of photos, as something to choose.
export const PhotoOrder = ({ value, change }) => html`
  <label><span class="unseen">${words.photo.order}</span>
    <select class="input" value=${value} onChange=${(event) => change(event.target.value)}>
      ${Object.entries(words.photo.orders).map(([each, text]) => html`<option key=${each} value=${each}>${text}</option>`)}
    </select></label>`;
