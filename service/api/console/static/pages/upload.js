// Storing photos: drop files or folders, see a result for each.

import { html, useLayoutEffect, useRef, useState } from "../html.js";
import { address } from "../router.js";
import { mayWrite, tenant } from "../session.js";
import { bytes } from "../format.js";
import { uploads } from "../uploads.js";
import { words } from "../words.js";
import { filesOf } from "../parts/drop.js";
import { Icon } from "../parts/icons.js";
import { Empty } from "../parts/states.js";

const FILTERS = ["all", "stored", "known", "failed", "skipped"];
const ICONS = { stored: "check", known: "photos", failed: "warning", skipped: "no", waiting: "history", sending: "upload", held: "history" };
// Rows in the document at most; the counts above speak of all.
const MOST_ROWS = 400;

export function Page() {
  const [filter, setFilter] = useState("all");
  if (!mayWrite.value) return html`<${Empty} isPage icon="lock" title=${words.noPermission} text=${words.noPermissionText("write")} />`;
  const all = uploads.all.value;
  const counts = uploads.counts.value;
  const left = counts.waiting + counts.sending + counts.held;
  const shown = filter === "all" ? all : all.filter((each) => each.state.value === filter);
  return html`
    <header class="page-head"><h1>${words.pages.upload}</h1>
      ${all.length > 0 && html`<div class="tools">
        ${counts.failed > 0 && html`<button class="button" onClick=${() => uploads.retry()}>${words.upload.retry(counts.failed)}</button>`}
        <button class="button" disabled=${left === all.length} onClick=${() => uploads.clear()}>${words.upload.clear}</button>
      </div>`}
    </header>
    ${uploads.interrupted.value?.tenant === tenant.value && html`
      <p class="banner" role="status"><${Icon} name="history" />${words.upload.interrupted(uploads.interrupted.value.left)}</p>`}
    <${DropZone} isSmall=${all.length > 0} />
    ${all.length > 0 && html`
      <section class="upload-sum" aria-live="polite">
        <progress max=${all.length} value=${all.length - left} aria-label=${words.upload.progress} />
        <p>${left ? words.upload.left(left, all.length) : words.upload.over(all.length)}
          ${counts.held > 0 && html` · <strong>${words.upload.held}</strong>`}</p>
      </section>
      <div class="filters" role="group" aria-label=${words.upload.filter}>
        ${FILTERS.map((each) => html`
          <button key=${each} class="chip" aria-pressed=${filter === each} onClick=${() => setFilter(each)}>
            ${words.upload.states[each]} <b>${each === "all" ? all.length : counts[each]}</b></button>`)}
      </div>
      <ul class="uploads">
        ${shown.slice(0, MOST_ROWS).map((each) => html`<${Row} key=${each.id} upload=${each} />`)}
      </ul>
      ${shown.length > MOST_ROWS && html`<p class="muted more">${words.upload.further(shown.length - MOST_ROWS)}</p>`}`}`;
}

function DropZone({ isSmall }) {
  const folder = useRef();
  useLayoutEffect(() => {
    folder.current.webkitdirectory = true;
  }, []);
  const take = (event) => {
    uploads.add([...event.target.files]);
    event.target.value = "";
  };
  const drop = async (event) => {
    event.preventDefault();
    event.stopPropagation();
    uploads.add(await filesOf(event.dataTransfer));
  };
  const over = (event) => {
    event.preventDefault();
    event.stopPropagation();
  };
  return html`
    <div class=${`drop-zone ${isSmall ? "is-small" : ""}`} onDragOver=${over} onDrop=${drop}>
      <${Icon} name="upload" size=${isSmall ? 24 : 40} />
      <div><strong>${words.upload.title}</strong><p class="muted">${words.upload.text}</p></div>
      <div class="row">
        <label class="button primary file">${words.upload.files}<input type="file" multiple accept="image/*,.dng,.nef,.cr2,.arw,.heic" onChange=${take} /></label>
        <label class="button file">${words.upload.folder}<input ref=${folder} type="file" multiple onChange=${take} /></label>
      </div>
    </div>`;
}

function Row({ upload }) {
  const state = upload.state.value;
  const problem = upload.problem.value;
  return html`
    <li class=${`upload ${state}`}>
      <${Icon} name=${ICONS[state]} />
      <span class="upload-name" title=${upload.file.name}>${upload.file.name}</span>
      <span class="muted upload-size">${bytes(upload.file.size)}</span>
      <span class="upload-result">
        ${state === "failed" ? words.problem(problem, false)
          : state === "stored" ? words.upload.stored(upload.faces.value)
          : words.upload.states[state]}
      </span>
      ${upload.imageId ? html`<a class="button small" href=${address("photo", { id: upload.imageId })}>${words.upload.open}</a>` : html`<span />`}
    </li>`;
}
