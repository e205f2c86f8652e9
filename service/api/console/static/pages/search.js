// Who is on a photo that is not stored: dropped, pasted or chosen.

import { call } from "../api.js";
import { html, useEffect, useLayoutEffect, useState } from "../html.js";
import { person } from "../people.js";
import { address } from "../router.js";
import { cropUrl, ofTenant } from "../session.js";
import { words } from "../words.js";
import { Boxes } from "../parts/boxes.js";
import { probe, searchWith } from "../parts/drop.js";
import { Icon } from "../parts/icons.js";
import { useLoad } from "../parts/load.js";
import { Picture } from "../parts/picture.js";
import { Similarity } from "../parts/similarity.js";
import { Empty, Failure, Loading } from "../parts/states.js";

const MOST = 6;

export function Page() {
  useLayoutEffect(() => {
    const paste = (event) => {
      const [file] = event.clipboardData?.files ?? [];
      if (file?.type.startsWith("image/")) searchWith(file);
    };
    addEventListener("paste", paste);
    return () => removeEventListener("paste", paste);
  }, []);
  const photo = probe.value;
  return html`
    <header class="page-head"><h1>${words.pages.search}</h1>
      ${photo && html`<div class="tools"><${Choose} text=${words.search.another} /></div>`}</header>
    ${photo ? html`<${Result} key=${photo.url} photo=${photo} />`
      : html`<${Empty} icon="search" title=${words.search.title} text=${words.search.text}><${Choose} text=${words.search.choose} isFirst /><//>`}`;
}

const Choose = ({ text, isFirst = false }) => html`
  <label class=${`button file ${isFirst ? "primary" : ""}`}><${Icon} name="photos" />${text}
    <input type="file" accept="image/*" onChange=${(event) => event.target.files[0] && searchWith(event.target.files[0])} /></label>`;

function Result({ photo }) {
  const { data, problem, reload } = useLoad((signal) => call("POST", ofTenant("/search"), {
    query: { limit: MOST }, body: photo.file, signal,
    headers: { "Content-Type": photo.file.type || "application/octet-stream" },
  }), [photo.url]);
  const [chosen, choose] = useState(0);
  if (problem) return html`<${Failure} problem=${problem} retry=${reload} />`;
  const best = (face) => face.matches[0]?.is_match ? person(face.matches[0].person_id).value?.label ?? words.noName : words.search.unknown;
  const face = data?.faces[chosen];
  return html`
    <div class="photo-page">
      <figure class="photo-stage" style=${data ? { aspectRatio: `${data.width} / ${data.height}`, maxWidth: `calc((100dvh - 130px) * ${data.width / data.height})` } : {}}>
        <${Picture} isEager fallback="photos" src=${photo.url} alt=${photo.file.name} />
        ${data && html`<${Boxes} width=${data.width} height=${data.height} faces=${data.faces} chosen=${chosen} choose=${choose} label=${best} render=${best} />`}
      </figure>
      <div class="photo-side" aria-live="polite" aria-busy=${!data}>
        ${!data && html`<${Loading} count=${5} className="line-tile" />`}
        ${data && !data.faces.length && html`<${Empty} icon="face" title=${words.search.noFaces} text=${words.search.noFacesText} />`}
        ${face && html`
          <h2>${words.search.nearest(chosen + 1, data.faces.length)}</h2>
          ${!face.matches.length && html`<p class="muted">${words.search.nobody}</p>`}
          <ul class="face-list">
            ${face.matches.map((match) => html`<${Match} key=${match.person_id} match=${match} />`)}
          </ul>
          <p class="muted small">${words.search.limit(face.max_distance)}</p>`}
      </div>
    </div>`;
}

function Match({ match }) {
  const found = person(match.person_id).value;
  return html`
    <li class=${`face-line ${match.is_match ? "is-match" : ""}`}>
      <a href=${address("person", { id: match.person_id })}>
        <${Picture} className="small" src=${cropUrl(match.nearest_face_id, 96)} />
        <span class="line-text"><span class=${`line-name ${found?.label ? "" : "unnamed"}`}>${found?.label ?? words.noName}</span>
        <span class="muted">${words.evidence(match)}</span></span></a>
      <${Similarity} match=${match} />
    </li>`;
}
