"""Copies of exceptions, so that each of several callers raises an instance of its own.

To raise an exception changes its traceback and its context. Callers that share an instance would
see each other's frames, and the traceback of a stored instance would grow with every use.
"""

from __future__ import annotations

from types import FunctionType
from typing import TypeVar

E = TypeVar("E", bound=BaseException)


def own_instance(error: E) -> E:
    """A copy of an exception: type, message, attributes, notes, cause, context and traceback.

    The copy is made without the `__init__` of a Python class, whose parameters are unknown here. An
    exception that cannot be made that way is returned itself.
    """
    kind = type(error)
    try:
        # Unlike `args`, these arguments include the file name of an OSError.
        args: tuple[object, ...] = error.__reduce__()[1]  # type: ignore[assignment]
        copy = kind.__new__(kind, *args)
        if not isinstance(kind.__init__, FunctionType):
            kind.__init__(copy, *args)
    except Exception:  # a shared exception is better than none
        return error
    copy.args = error.args
    copy.__dict__.update(error.__dict__)
    if notes := getattr(error, "__notes__", None):
        copy.__notes__ = list(notes)
    copy.__cause__, copy.__context__ = error.__cause__, error.__context__
    copy.__suppress_context__ = error.__suppress_context__
    return copy.with_traceback(error.__traceback__)
