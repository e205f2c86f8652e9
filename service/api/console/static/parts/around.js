// The photos around the faces of a question.

import { call } from "../api.js";
import { html } from "../html.js";
import { ofTenant, thumbnailUrl } from "../session.js";
import { words } from "../words.js";
import { DialogHead, show } from "./dialog.js";
import { useLoad } from "./load.js";
import { Picture } from "./picture.js";
import { Failure, Loading } from "./states.js";

export const showPhoto = (question) =>
  show((close) => html`<${Around} question=${question} close=${close} />`);

function Around({ question, close }) {
  const { data, problem, reload } = useLoad(async (signal) => {
    const covers = question.people.map((each) => each.cover_face_id).filter(Boolean);
    const others = await Promise.all(covers.map((id) => call("GET", ofTenant(`/faces/${id}`), { signal })));
    return question.face ? [question.face, ...others] : others;
  }, [question.id]);
  return html`
    <${DialogHead} title=${words.review.around} close=${close} />
    ${problem ? html`<${Failure} problem=${problem} retry=${reload} />`
      : !data ? html`<${Loading} count=${2} className="photo-tile" />`
      : html`<div class="around">${data.map((face) => html`<${Picture} key=${face.id} isEager fallback="photos" src=${thumbnailUrl(face.image_id, 512)} alt=${words.review.around} />`)}</div>`}`;
}
