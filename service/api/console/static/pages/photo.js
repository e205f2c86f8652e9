// A photo with its faces drawn and named, its near copies, and what goes when it is deleted.

import { call } from "../api.js";
import { attempt, changed, moveFaces, removeImage } from "../changes.js";
import { bytes, list, moment } from "../format.js";
import { html, useEffect, useState } from "../html.js";
import { person } from "../people.js";
import { address, go } from "../router.js";
import { cropUrl, fileUrl, mayWrite, ofTenant, thumbnailUrl } from "../session.js";
import { words } from "../words.js";
import { Boxes } from "../parts/boxes.js";
import { ask } from "../parts/dialog.js";
import { Icon } from "../parts/icons.js";
import { useLoad } from "../parts/load.js";
import { choosePerson } from "../parts/picker.js";
import { Picture } from "../parts/picture.js";
import { Empty, Failure, Loading } from "../parts/states.js";

const MOST_FACES = 500;

export function Page({ id, face: first = null }) {
  const { data, problem, reload } = useLoad(async (signal) => {
    const [image, faces, copies] = await Promise.all([
      call("GET", ofTenant(`/images/${id}`), { signal }),
      call("GET", ofTenant(`/images/${id}/faces`), { query: { limit: MOST_FACES }, signal }),
      call("GET", ofTenant(`/images/${id}/duplicates`), { query: { limit: 12 }, signal }),
    ]);
    return { image, faces: faces.items, copies: copies.items };
  }, [id, changed.value]);
  const [chosen, choose] = useState(first);
  if (problem?.status === 404) {
    return html`<${Empty} isPage icon="photos" title=${words.photo.gone}>
      <a class="button" href=${address("photos")}>${words.pages.photos}</a><//>`;
  }
  if (problem) return html`<${Failure} isPage problem=${problem} retry=${reload} />`;
  if (!data) return html`<${Loading} count=${1} className="photo-large" />`;
  const { image, faces, copies } = data;
  const nameOf = (face) => person(face.person_id).value?.label ?? words.noName;
  return html`
    <header class="page-head">
      <div class="row"><a class="button quiet square" href=${address("photos")} aria-label=${words.photo.back}><${Icon} name="back" /></a>
        <h1>${moment(image.taken_at ?? image.created_at)}</h1></div>
      <div class="tools">
        ${image.has_file && html`<a class="button" href=${fileUrl(id)} download=${`${id}.${image.format}`}><${Icon} name="download" />${words.photo.download}</a>`}
        ${mayWrite.value && html`<button class="button quiet-danger" onClick=${() => erase(image, faces)}><${Icon} name="trash" />${words.photo.erase}</button>`}
      </div>
    </header>
    <div class="photo-page">
      <figure class="photo-stage" style=${{ aspectRatio: `${image.width} / ${image.height}`, maxWidth: `calc((100dvh - 130px) * ${image.width / image.height})` }}>
        <${Picture} isEager fallback="photos" src=${image.has_file && thumbnailUrl(id, 1024)} alt=${words.photo.from(moment(image.created_at), faces.length)} />
        <${Boxes} width=${image.width} height=${image.height} faces=${faces} chosen=${chosen} choose=${choose} label=${nameOf} render=${nameOf} />
      </figure>
      <div class="photo-side">
        <h2>${words.faces(faces.length)}</h2>
        ${!faces.length && html`<p class="muted">${words.photo.noFaces}</p>`}
        <ul class="face-list">
          ${faces.map((face) => html`<${FaceLine} key=${face.id} face=${face} isChosen=${chosen === face.id} choose=${choose} />`)}
        </ul>
        <h2>${words.photo.facts}</h2>
        <dl class="facts">
          <dt>${words.photo.stored}</dt><dd>${moment(image.created_at)}</dd>
          ${image.taken_at && html`<dt>${words.photo.taken}</dt><dd>${moment(image.taken_at)}</dd>`}
          <dt>${words.photo.size}</dt><dd>${image.width} × ${image.height}, ${bytes(image.size_bytes)}, ${image.format.toUpperCase()}</dd>
        </dl>
        ${copies.length > 0 && html`
          <h2>${words.photo.copies}</h2>
          <ul class="copies">
            ${copies.map(({ image: copy, hash_distance: bits }) => html`
              <li key=${copy.id}><a href=${address("copies", { id, other: copy.id })}>
                <${Picture} fallback="photos" src=${thumbnailUrl(copy.id, 256)} />
                <span>${copy.width} × ${copy.height}, ${bytes(copy.size_bytes)}</span><span class="muted">${words.photo.bits(bits)}</span></a></li>`)}
          </ul>`}
      </div>
    </div>`;
}

function FaceLine({ face, isChosen, choose }) {
  const found = person(face.person_id).value;
  const move = async () => {
    const to = await choosePerson({
      title: words.face.moveTo(1), without: [face.person_id],
      near: () => call("POST", ofTenant("/search"), { json: { face_id: face.id, limit: 12 } }).then((told) => told.matches),
    });
    if (!to) return;
    await attempt(async () => {
      await moveFaces([face], to.id ?? "new");
      if (!to.label) return;
      const now = await call("GET", ofTenant(`/faces/${face.id}`));
      await call("PATCH", ofTenant(`/people/${now.person_id}`), { json: { label: to.label } });
      changed.value += 1;
    });
  };
  return html`
    <li class=${`face-line ${isChosen ? "chosen" : ""}`} onMouseEnter=${() => choose(face.id)}>
      <a href=${address("person", { id: face.person_id })}>
        <${Picture} className="small" src=${cropUrl(face.id, 96)} />
        <span class="line-text"><span class=${`line-name ${found?.label ? "" : "unnamed"}`}>${found?.label ?? words.noName}</span>
        <span class="muted">${words.face.evidence(face)}</span></span></a>
      ${mayWrite.value && html`
        <span class="row tight">
          <a class="button quiet square" title=${words.face.find} aria-label=${words.face.find} href=${address("search", { face: face.id })}><${Icon} name="search" /></a>
          <button class="button quiet square" title=${words.face.move} aria-label=${words.face.move} onClick=${move}><${Icon} name="move" /></button>
          <button class="button quiet square" title=${words.face.not} aria-label=${words.face.not} onClick=${() => attempt(() => moveFaces([face], null))}><${Icon} name="no" /></button>
        </span>`}
    </li>`;
}

// Says what goes with the photo before it goes: faces, and people of whom this is the only photo.
async function erase(image, faces) {
  await attempt(async () => {
    const ids = [...new Set(faces.map((each) => each.person_id))];
    const people = await Promise.all(ids.map((each) => call("GET", ofTenant(`/people/${each}`))));
    const alone = people.filter((each) => each.image_count === 1);
    const named = list(alone.map((each) => each.label ?? words.noName));
    const isSure = await ask({
      title: words.photo.eraseTitle, confirm: words.photo.erase, isDanger: true,
      text: html`<p>${words.photo.eraseText(faces.length)}</p>${alone.length > 0 && html`<p>${words.photo.eraseAlone(alone.length, named)}</p>`}<p>${words.forGood}</p>`,
    });
    if (!isSure) return;
    await removeImage(image.id);
    go("photos");
  });
}
