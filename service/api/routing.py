"""The router: Starlette's, which tries the few routes that a path can match."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

_Shape = tuple[int, str]


class ShapedRouter:
    """Routes by the shape of a path, then as Starlette does: in the order of the routes.

    The shape is the number of segments, and the last one. A route whose last segment is a parameter
    fits every last one, and one whose parameter takes several segments fits every shape. Starlette
    would try the expressions of all routes, one after the other.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        ends = {_shape(route.path) for route in routes if not _takes_several(route)}
        fixed = {(count, last) for count, last in ends if not _is_parameter(last)}
        self._fixed = {shape: _router(routes, *shape) for shape in fixed}
        self._open = {count: _router(routes, count, "{}") for count, _ in ends}
        self._others = _router(routes, -1, "")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request.

        Raises:
            HTTPException: no route has this path, or none of those takes the method.
        """
        shape = _shape(scope["path"])
        router = self._fixed.get(shape) or self._open.get(shape[0], self._others)
        await router(scope, receive, send)


def _router(routes: Sequence[Route], count: int, last: str) -> Router:
    """A router of the routes that fit a shape."""
    return Router(
        [
            route
            for route in routes
            if _takes_several(route)
            or (
                _shape(route.path)[0] == count
                and (_shape(route.path)[1] == last or _is_parameter(_shape(route.path)[1]))
            )
        ],
        redirect_slashes=False,
    )


def _shape(path: str) -> _Shape:
    return path.count("/"), path.rpartition("/")[2]


def _takes_several(route: Route) -> bool:
    return ":path}" in route.path


def _is_parameter(segment: str) -> bool:
    return segment.startswith("{")
