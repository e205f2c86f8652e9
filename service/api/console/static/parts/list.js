// A page-by-page list with its states: loading, empty, failed, more to come.

import { html, useEffect, useMemo, useRef } from "../html.js";
import { changed } from "../live.js";
import { PageList } from "../pagelist.js";
import { words } from "../words.js";
import { Failure, Loading } from "./states.js";

// The list of a route: another one when a dependency changes, the same one read again when
// something happened in the tenant.
export function useList(path, query, dependencies, limit = 100) {
  const list = useMemo(() => new PageList(path, query, limit), dependencies);
  useEffect(() => {
    list.more();
    return () => list.close();
  }, [list]);
  const now = changed.value;
  const seen = useRef(now);
  useEffect(() => {
    if (seen.current !== now) list.refresh();
    seen.current = now;
  }, [list, now]);
  return list;
}

// children(items): the content. empty: what stands there without an item.
export function Listed({ list, empty, skeleton = {}, children }) {
  const items = list.items.value;
  const problem = list.problem.value;
  if (!items.length) {
    if (problem) return html`<${Failure} problem=${problem} retry=${() => list.more()} />`;
    if (!list.isComplete.value) return html`<${Loading} ...${skeleton} />`;
    return empty;
  }
  return html`
    ${children(items)}
    ${problem && html`
      <p class="more" role="alert">${words.problem(problem, false)}
        <button class="button small" onClick=${() => list.more()}>${words.tryAgain}</button></p>`}
    ${!problem && list.isLoading.value && html`<p class="more muted" role="status">${words.loading}</p>`}`;
}
