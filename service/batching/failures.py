"""One failure that several callers are told of: each gets an exception of its own.

Whoever raises an exception adds to its traceback, its context and its notes. Callers that share an
instance would see each other's, and one that is kept would grow with every use.
"""

from __future__ import annotations

from types import FunctionType
from typing import TypeVar

E = TypeVar("E", bound=BaseException)


def own_instance(error: E) -> E:
    """An exception of the same type, message, attributes, cause and traceback as another.

    The constructor of a class in Python is not called: what it takes need not be what `args` holds.
    An exception that cannot be made without it is returned itself.
    """
    kind = type(error)
    try:
        # OSError keeps the name of its file out of `args`, but not out of this.
        args: tuple[object, ...] = error.__reduce__()[1]  # type: ignore[assignment]
        copy = kind.__new__(kind, *args)
        if not isinstance(kind.__init__, FunctionType):
            kind.__init__(copy, *args)
    except Exception:  # better shared than lost
        return error
    copy.args = error.args
    copy.__dict__.update(error.__dict__)
    if notes := getattr(error, "__notes__", None):
        copy.__notes__ = list(notes)
    copy.__cause__, copy.__context__ = error.__cause__, error.__context__
    copy.__suppress_context__ = error.__suppress_context__
    return copy.with_traceback(error.__traceback__)
