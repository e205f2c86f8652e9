// Who is on a photo that is not stored: dropped, pasted or chosen.

import { call } from "../api.js";
import { html, useLayoutEffect, useRef, useState } from "../html.js";
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
const MOST_OF_FACE = 12;
const LEAST_BOX_PX = 8;

// face: the id of a stored face to look for, in the place of a photo.
export function Page({ face = null }) {
  useLayoutEffect(() => {
    const paste = (event) => {
      const [file] = event.clipboardData?.files ?? [];
      if (file?.type.startsWith("image/")) searchWith(file);
    };
    addEventListener("paste", paste);
    return () => removeEventListener("paste", paste);
  }, []);
  const photo = face ? null : probe.value;
  return html`
    <header class="page-head"><h1>${words.pages.search}</h1>
      ${(photo || face) && html`<div class="tools"><${Choose} text=${words.search.another} /></div>`}</header>
    ${face ? html`<${ByFace} key=${face} id=${face} />`
      : photo ? html`<${Result} key=${photo.url} photo=${photo} />`
      : html`<${Empty} icon="search" title=${words.search.title} text=${words.search.text}><${Choose} text=${words.search.choose} isFirst /><//>`}`;
}

const Choose = ({ text, isFirst = false }) => html`
  <label class=${`button file ${isFirst ? "primary" : ""}`}><${Icon} name="photos" />${text}
    <input type="file" accept="image/*" onChange=${(event) => event.target.files[0] && searchWith(event.target.files[0])} /></label>`;

// The people nearest to a stored face.
function ByFace({ id }) {
  const { data, problem, reload } = useLoad(async (signal) => {
    const [found, face] = await Promise.all([
      call("POST", ofTenant("/search"), { json: { face_id: id, limit: MOST_OF_FACE }, signal }),
      call("GET", ofTenant(`/faces/${id}`), { signal }),
    ]);
    return { ...found, face };
  }, [id]);
  if (problem) return html`<${Failure} problem=${problem} retry=${reload} />`;
  return html`
    <div class="photo-page by-face">
      <figure class="face-stage">
        <${Picture} isEager src=${cropUrl(id, 512)} alt=${words.search.thisFace} />
        ${data && html`<figcaption><a href=${address("photo", { id: data.face.image_id, face: id })}>${words.search.itsPhoto}</a></figcaption>`}
      </figure>
      <div class="photo-side" aria-live="polite" aria-busy=${!data}>
        ${!data ? html`<${Loading} count=${6} className="line-tile" />` : html`<${Matches} title=${words.search.nearestPeople} found=${data} />`}
      </div>
    </div>`;
}

const Matches = ({ title, found }) => html`
  <h2>${title}</h2>
  ${!found.matches.length && html`<p class="muted">${words.search.nobody}</p>`}
  <ul class="face-list">
    ${found.matches.map((match) => html`<${Match} key=${match.person_id} match=${match} />`)}
  </ul>
  <p class="muted small">${words.search.limit(found.max_distance)}</p>`;

const searchIn = (photo, query, signal) => call("POST", ofTenant("/search"), {
  query: { limit: MOST, ...query }, body: photo.file, signal,
  headers: { "Content-Type": photo.file.type || "application/octet-stream" },
});

function Result({ photo }) {
  const { data: first, problem, reload } = useLoad((signal) => searchIn(photo, {}, signal), [photo.url]);
  const [chosen, choose] = useState(0);
  // What was found in boxes that were drawn around faces.
  const [drawn, setDrawn] = useState({ faces: [], problem: null, isBusy: false });
  const stage = useRef();
  const data = first && { ...first, faces: [...first.faces, ...drawn.faces] };
  const lookIn = async (box) => {
    setDrawn({ ...drawn, problem: null, isBusy: true });
    try {
      const found = await searchIn(photo, { box: box.map((each) => each.toFixed(1)).join(",") });
      const faces = found.faces.length ? found.faces.map((each) => ({ ...each, isDrawn: true })) : [];
      setDrawn({ faces: [...drawn.faces, ...faces], problem: faces.length ? null : words.search.noFaceThere, isBusy: false });
      if (faces.length) choose(data.faces.length);
    } catch (failed) {
      if (failed.status === undefined) throw failed;
      setDrawn({ ...drawn, problem: words.problem(failed, false), isBusy: false });
    }
  };
  const [band, pointer] = useBox(stage, data, lookIn);
  if (problem) return html`<${Failure} problem=${problem} retry=${reload} />`;
  const best = (face) => face.matches[0]?.is_match ? person(face.matches[0].person_id).value?.label ?? words.noName : words.search.unknown;
  const face = data?.faces[chosen];
  return html`
    <div class="photo-page">
      <figure ref=${stage} class="photo-stage can-draw" ...${pointer} style=${data ? { aspectRatio: `${data.width} / ${data.height}`, maxWidth: `calc((100dvh - 130px) * ${data.width / data.height})` } : {}}>
        <${Picture} isEager fallback="photos" src=${photo.url} alt=${photo.file.name} />
        ${data && html`<${Boxes} width=${data.width} height=${data.height} faces=${data.faces} chosen=${chosen} choose=${choose} label=${best} render=${best} />`}
        ${band && html`<div class="band" style=${band} role="presentation" />`}
      </figure>
      <div class="photo-side" aria-live="polite" aria-busy=${!data}>
        ${!data && html`<${Loading} count=${5} className="line-tile" />`}
        ${data && !data.faces.length && html`<${Empty} icon="face" title=${words.search.noFaces} text=${words.search.noFacesText} />`}
        ${face && html`<${Matches} title=${words.search.nearest(chosen + 1, data.faces.length)} found=${face} />`}
        ${data && html`<p class="muted small">${drawn.isBusy ? words.search.looking : words.search.draw}</p>`}
        ${drawn.problem && html`<p class="field-error" role="alert">${drawn.problem}</p>`}
      </div>
    </div>`;
}

// Drawing a box around a face: [style of the band or null, handlers of the stage]. look: called
// with x1, y1, x2, y2 in pixels of the photo.
function useBox(stage, data, look) {
  const [box, setBox] = useState(null);
  const from = useRef(null);
  const place = (event) => {
    const frame = stage.current.getBoundingClientRect();
    const within = (value, size) => Math.max(0, Math.min(size, value));
    return [within(event.clientX - frame.left, frame.width), within(event.clientY - frame.top, frame.height)];
  };
  const sides = ([x, y], [u, v]) => [Math.min(x, u), Math.min(y, v), Math.max(x, u), Math.max(y, v)];
  const down = (event) => {
    if (!data || event.button !== 0) return;
    from.current = place(event);
  };
  const move = (event) => {
    if (!from.current) return;
    const now = sides(from.current, place(event));
    if (!box && now[2] - now[0] < LEAST_BOX_PX && now[3] - now[1] < LEAST_BOX_PX) return;
    // From here on it is no click on a face any more.
    if (!box) event.currentTarget.setPointerCapture(event.pointerId);
    setBox(now);
  };
  const up = (event) => {
    const drawn = box && from.current && sides(from.current, place(event));
    from.current = null;
    setBox(null);
    if (!drawn || drawn[2] - drawn[0] < LEAST_BOX_PX || drawn[3] - drawn[1] < LEAST_BOX_PX) return;
    const scale = data.width / stage.current.clientWidth;
    look(drawn.map((each) => each * scale));
  };
  const cancel = () => {
    from.current = null;
    setBox(null);
  };
  const band = box && { left: `${box[0]}px`, top: `${box[1]}px`, width: `${box[2] - box[0]}px`, height: `${box[3] - box[1]}px` };
  return [band, { onPointerDown: down, onPointerMove: move, onPointerUp: up, onPointerCancel: cancel }];
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
