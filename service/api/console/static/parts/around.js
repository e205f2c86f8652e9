// The photos around the faces of a question, with each face marked.

import { call } from "../api.js";
import { html } from "../html.js";
import { ofTenant, thumbnailUrl } from "../session.js";
import { words } from "../words.js";
import { DialogHead, show } from "./dialog.js";
import { useLoad } from "./load.js";
import { Picture } from "./picture.js";
import { Failure, Loading } from "./states.js";

const percent = (part, whole) => `${(100 * part) / whole}%`;

export const showPhoto = (question) =>
  show((close) => html`<${Around} question=${question} close=${close} />`);

function Around({ question, close }) {
  const { data, problem, reload } = useLoad(async (signal) => {
    const read = (path) => call("GET", ofTenant(path), { signal });
    const covers = question.people.map((each) => each.cover_face_id).filter(Boolean);
    const others = await Promise.all(covers.map((id) => read(`/faces/${id}`)));
    const faces = question.face ? [question.face, ...others] : others;
    const images = await Promise.all(faces.map((face) => read(`/images/${face.image_id}`)));
    return faces.map((face, at) => ({ face, image: images[at] }));
  }, [question.id]);
  return html`
    <${DialogHead} title=${words.review.around} close=${close} />
    ${problem ? html`<${Failure} problem=${problem} retry=${reload} />`
      : !data ? html`<${Loading} count=${2} className="photo-tile" />`
      : html`<div class="around">${data.map(({ face, image }) => html`<${Marked} key=${face.id} face=${face} image=${image} />`)}</div>`}`;
}

function Marked({ face: { box }, image: { id, width, height, has_file: hasFile } }) {
  const place = {
    left: percent(box.x1, width), top: percent(box.y1, height),
    width: percent(box.x2 - box.x1, width), height: percent(box.y2 - box.y1, height),
  };
  return html`
    <figure class="around-photo" style=${{ aspectRatio: `${width} / ${height}` }}>
      <${Picture} isEager fallback="photos" src=${hasFile && thumbnailUrl(id, 1024)} alt=${words.review.around} />
      <span class="box chosen" style=${place} />
    </figure>`;
}
