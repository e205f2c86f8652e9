"""What intrinsics for compiled functions share: how they are declared, and elements of an array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.extending import intrinsic as _intrinsic

# An intrinsic is called from compiled code only, with arguments that Python does not see.
intrinsic: Callable[[Callable[..., Any]], Any] = _intrinsic


def element(context: Any, builder: Any, signature: Any, args: Any, target: Any) -> Any:
    """Pointer of a type to element args[1] of the array args[0]."""
    array = context.make_array(signature.args[0])(context, builder, args[0])
    return builder.bitcast(builder.gep(array.data, [args[1]]), target.as_pointer())
