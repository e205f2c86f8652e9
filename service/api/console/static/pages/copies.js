// A photo and its near copies side by side, large, with what differs.

import { call } from "../api.js";
import { attempt, changed, removeImage } from "../changes.js";
import { bytes, moment } from "../format.js";
import { html } from "../html.js";
import { address, go } from "../router.js";
import { fileUrl, mayWrite, ofTenant, thumbnailUrl } from "../session.js";
import { words } from "../words.js";
import { ask } from "../parts/dialog.js";
import { Icon } from "../parts/icons.js";
import { useLoad } from "../parts/load.js";
import { Picture } from "../parts/picture.js";
import { Empty, Failure, Loading } from "../parts/states.js";

const MOST = 50;

// What is compared: what it is called, as it is written, and by which number more is better.
const FACTS = [
  ["dimensions", (image) => `${image.width} × ${image.height}`, (image) => image.width * image.height],
  ["bytes", (image) => bytes(image.size_bytes), (image) => image.size_bytes],
  ["format", (image) => image.format.toUpperCase(), null],
  ["taken", (image) => (image.taken_at ? moment(image.taken_at) : words.copies.unknown), null],
  ["stored", (image) => moment(image.created_at), null],
  ["faces", (image) => words.faces(image.face_count), (image) => image.face_count],
];

// other: which of the near copies stands beside the photo; the nearest one without.
export function Page({ id, other = null }) {
  const { data, problem, reload } = useLoad(async (signal) => {
    const [image, copies] = await Promise.all([
      call("GET", ofTenant(`/images/${id}`), { signal }),
      call("GET", ofTenant(`/images/${id}/duplicates`), { query: { limit: MOST }, signal }),
    ]);
    return { image, copies: copies.items };
  }, [id, changed.value]);
  if (problem?.status === 404) {
    return html`<${Empty} isPage icon="photos" title=${words.photo.gone}>
      <a class="button" href=${address("photos")}>${words.pages.photos}</a><//>`;
  }
  if (problem) return html`<${Failure} isPage problem=${problem} retry=${reload} />`;
  if (!data) return html`<${Loading} count=${1} className="photo-large" />`;
  const { image, copies } = data;
  const at = Math.max(0, copies.findIndex((each) => each.image.id === other));
  const shown = copies[at];
  const step = (by) => go("copies", { id, other: copies[at + by].image.id }, { replace: true });
  return html`
    <header class="page-head">
      <div class="row"><a class="button quiet square" href=${address("photo", { id })} aria-label=${words.copies.back}><${Icon} name="back" /></a>
        <h1>${words.photo.copies}</h1></div>
      ${copies.length > 1 && html`
        <div class="tools"><span class="muted">${words.copies.at(at + 1, copies.length)}</span>
          <button class="button square" aria-label=${words.copies.before} disabled=${at === 0} onClick=${() => step(-1)}><${Icon} name="back" /></button>
          <button class="button square" aria-label=${words.copies.next} disabled=${at === copies.length - 1} onClick=${() => step(1)}><${Icon} name="next" /></button>
        </div>`}
    </header>
    ${!shown ? html`<${Empty} icon="check" title=${words.copies.none}>
        <a class="button" href=${address("photo", { id })}>${words.copies.back}</a><//>`
      : html`
        <p class="copies-apart">${words.photo.bits(shown.hash_distance)}</p>
        <div class="side-by-side">
          <${Copy} image=${image} other=${shown.image} title=${words.copies.this} next=${shown.image.id} />
          <${Copy} image=${shown.image} other=${image} title=${words.copies.copy} next=${id} />
        </div>`}`;
}

// next: the photo that is shown once this one was deleted.
function Copy({ image, other, title, next }) {
  const erase = async () => {
    const isSure = await ask({
      title: words.photo.eraseTitle, confirm: words.photo.erase, isDanger: true,
      text: html`<p>${words.photo.eraseText(image.face_count)}</p><p>${words.forGood}</p>`,
    });
    if (isSure && await attempt(() => removeImage(image.id))) go("copies", { id: next }, { replace: true });
  };
  return html`
    <section class="copy" aria-label=${title}>
      <h2>${title}</h2>
      <a class="copy-picture" href=${address("photo", { id: image.id })} style=${{ aspectRatio: `${image.width} / ${image.height}` }}>
        <${Picture} isEager fallback="photos" src=${image.has_file && thumbnailUrl(image.id, 1024)} alt=${words.photo.from(moment(image.created_at), image.face_count)} /></a>
      <dl class="facts">
        ${FACTS.map(([name, written, number]) => {
          const differs = written(image) !== written(other);
          const isMore = differs && number && number(image) > number(other);
          return html`<dt key=${`${name} name`}>${words.copies.facts[name]}</dt>
            <dd key=${name} class=${differs ? "differs" : ""}>${written(image)}${isMore && html` <span class="tag">${words.copies.more}</span>`}</dd>`;
        })}
      </dl>
      <div class="row">
        ${image.has_file && html`<a class="button small" href=${fileUrl(image.id)} download=${`${image.id}.${image.format}`}><${Icon} name="download" size=${16} />${words.photo.download}</a>`}
        ${mayWrite.value && html`<button class="button small quiet-danger" onClick=${erase}><${Icon} name="trash" size=${16} />${words.photo.erase}</button>`}
      </div>
    </section>`;
}
