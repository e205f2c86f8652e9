// A wall of photos, newest first.

import { changed } from "../changes.js";
import { day } from "../format.js";
import { html, useCallback } from "../html.js";
import { address } from "../router.js";
import { mayWrite, thumbnailUrl } from "../session.js";
import { words } from "../words.js";
import { Listed, useList } from "./list.js";
import { Picture } from "./picture.js";
import { Empty } from "./states.js";
import { Wall } from "./wall.js";

export function PhotoWall({ path, query }) {
  const list = useList(path, query, [path, JSON.stringify(query), changed.value]);
  const more = useCallback(() => list.more(), [list]);
  const empty = html`
    <${Empty} icon="photos" title=${words.photo.none} text=${words.photo.noneText}>
      ${mayWrite.value && html`<a class="button primary" href=${address("upload")}>${words.pages.upload}</a>`}<//>`;
  return html`
    <${Listed} list=${list} skeleton=${{ count: 24, className: "photo-tile" }} empty=${empty}>
      ${(items) => html`<${Wall} items=${items} label=${words.pages.photos} more=${more} min=${180} gap=${6}
        render=${(image, attributes) => html`
          <a class="photo-card" href=${address("photo", { id: image.id })} ...${attributes}>
            <${Picture} fallback="photos" src=${image.has_file && thumbnailUrl(image.id)} alt=${words.photo.from(day(image.taken_at ?? image.created_at), image.face_count)} />
            ${image.face_count > 0 && html`<span class="photo-faces" aria-hidden="true">${image.face_count}</span>`}
          </a>`} />`}
    <//>`;
}
