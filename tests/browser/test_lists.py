"""A long list that is read again has every item that it had, and the new ones."""

from __future__ import annotations

from collections.abc import Callable

from tests.browser.console import Console

# Reads four pages of a list, moves items of it ([from, to] each; from nowhere, an item is new), and
# reads it again. Returns what the console has, and what there is.
_READ = """async (moves) => {
    const { PageList } = await import("/console/static/pagelist.js");
    const all = Array.from({ length: 2500 }, (_, at) => ({ id: at }));
    window.fetch = async (url) => {
        // A page as the API gives it.
        const query = new URL(url, location).searchParams;
        const from = Number(query.get("cursor") ?? 0);
        const to = from + Number(query.get("limit"));
        const page = { items: all.slice(from, to), next: to < all.length ? String(to) : null };
        return Response.json(page);
    };
    const list = new PageList("/list", {}, 500);
    for (let at = 0; at < 4; at += 1) await list.more();
    for (const [from, to] of moves) {
        all.splice(to, 0, ...(from === null ? [{ id: -1 }] : all.splice(from, 1)));
    }
    await list.refresh();
    return [list.items.value.map((each) => each.id), all.map((each) => each.id)];
}"""


def test_a_long_list_that_is_read_again_loses_nothing(
    open_console: Callable[..., Console],
) -> None:
    page = open_console().page
    for moves in ([[None, 0]], [[2400, 0]], [[999, 0], [None, 0]], [[1000, 999]], [[3, 2000]]):
        items, everything = page.evaluate(_READ, moves)
        read = everything[: len(items)]
        assert set(read) <= set(items), moves
        assert items[:1000] == everything[:1000], moves
        assert len(set(items)) == len(items), moves
