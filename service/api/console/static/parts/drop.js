// Photos dropped anywhere on the page: to search with one, or to store them.

import { html, signal, useLayoutEffect } from "../html.js";
import { go } from "../router.js";
import { mayWrite, tenant } from "../session.js";
import { words } from "../words.js";
import { Icon } from "./icons.js";
import { uploads } from "../uploads.js";

// The photo that the search page works on: {file, url}, null before one was dropped.
export const probe = signal(null);

const isOver = signal(null);

export function searchWith(file) {
  if (probe.value) URL.revokeObjectURL(probe.value.url);
  probe.value = { file, url: URL.createObjectURL(file) };
  go("search");
}

// The files of a drop, those in folders too.
export async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  return (await Promise.all(entries.map(filesUnder))).flat();
}

async function filesUnder(entry) {
  if (entry.isFile) return [await new Promise((done, failed) => entry.file(done, failed))];
  const reader = entry.createReader();
  const found = [];
  // A folder is read in parts; an empty part is its end.
  for (;;) {
    const part = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!part.length) return found;
    found.push(...(await Promise.all(part.map(filesUnder))).flat());
  }
}

export function DropTarget() {
  useLayoutEffect(() => {
    const hasFiles = (event) => event.dataTransfer?.types.includes("Files") && tenant.value;
    const over = (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      isOver.value = event.target.closest?.("[data-drop]")?.dataset.drop ?? "page";
    };
    const leave = (event) => {
      if (!event.relatedTarget) isOver.value = null;
    };
    const drop = async (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      const stores = isOver.value === "store";
      isOver.value = null;
      const files = await filesOf(event.dataTransfer);
      if (stores || files.length > 1) {
        if (!mayWrite.value) return;
        uploads.add(files);
        go("upload");
      } else if (files.length) {
        searchWith(files[0]);
      }
    };
    addEventListener("dragover", over);
    addEventListener("dragleave", leave);
    addEventListener("drop", drop);
    return () => {
      removeEventListener("dragover", over);
      removeEventListener("dragleave", leave);
      removeEventListener("drop", drop);
    };
  }, []);
  if (isOver.value === null) return null;
  return html`
    <div class="drop-veil">
      <div class=${`drop-half ${isOver.value === "search" ? "over" : ""}`} data-drop="search">
        <${Icon} name="search" size=${40} /><strong>${words.drop.search}</strong><span>${words.drop.searchText}</span>
      </div>
      ${mayWrite.value && html`
        <div class=${`drop-half ${isOver.value === "store" ? "over" : ""}`} data-drop="store">
          <${Icon} name="upload" size=${40} /><strong>${words.drop.store}</strong><span>${words.drop.storeText}</span>
        </div>`}
    </div>`;
}
