"""Intrinsics on four numbers for compiled functions: the colours of a pixel, and a spare one.

For every processor. A `Sums` is four uint32, a `Means` four float32; both are held in registers.
What is read or written is four numbers wide too, of which the last belongs to the next pixel.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import models, register_model

from service.vision.intrinsics import element, intrinsic

_LANES = 4
_I8, _I32, _F32 = ir.IntType(8), ir.IntType(32), ir.FloatType()
_SUMS, _MEANS = ir.VectorType(_I32, _LANES), ir.VectorType(_F32, _LANES)
_BYTES = ir.VectorType(_I8, _LANES)


class _Sums(types.Type):
    def __init__(self) -> None:
        super().__init__("Sums")


class _Means(types.Type):
    def __init__(self) -> None:
        super().__init__("Means")


_sums, _means = _Sums(), _Means()


@register_model(_Sums)
class _SumsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _SUMS)  # type: ignore[no-untyped-call]


@register_model(_Means)
class _MeansModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _MEANS)  # type: ignore[no-untyped-call]


def _everywhere(builder: Any, value: Any) -> Any:
    """A float32 in every lane."""
    undefined = ir.Constant(_MEANS, ir.Undefined)
    first = builder.insert_element(undefined, value, _I32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(_SUMS, [_I32(0)] * _LANES))


@intrinsic
def no_sums(typing: Any) -> Any:
    """Zeros."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(_SUMS, None)

    return _sums(), generate


@intrinsic
def load_sums(typing: Any, array: Any, index: Any) -> Any:
    """Load four uint32 of a contiguous array, from an index on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(element(context, builder, signature, args, _SUMS), align=4)

    return _sums(array, types.intp), generate


@intrinsic
def load_colours(typing: Any, array: Any, index: Any) -> Any:
    """Load four uint8 of a contiguous array, from an index on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        colours = builder.load(element(context, builder, signature, args, _BYTES), align=1)
        return builder.zext(colours, _SUMS)

    return _sums(array, types.intp), generate


@intrinsic
def store_sums(typing: Any, array: Any, index: Any, sums: Any) -> Any:
    """Write four uint32 into a contiguous array, from an index on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], element(context, builder, signature, args, _SUMS), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, _sums), generate


@intrinsic
def plus(typing: Any, one: Any, other: Any) -> Any:
    """Sum modulo 2**32, lane by lane."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.add(*args)

    return _sums(_sums, _sums), generate


@intrinsic
def minus(typing: Any, one: Any, other: Any) -> Any:
    """Difference modulo 2**32, lane by lane."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.sub(*args)

    return _sums(_sums, _sums), generate


@intrinsic
def scaled(typing: Any, sums: Any, scale: Any) -> Any:
    """The sums as float32, times a float32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fmul(builder.uitofp(args[0], _MEANS), _everywhere(builder, args[1]))

    return _means(_sums, types.float32), generate


@intrinsic
def store_rounded(typing: Any, array: Any, index: Any, means: Any) -> Any:
    """Write four float32 from 0 to 255, rounded, into a contiguous uint8 array."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        half = _everywhere(builder, ir.Constant(_F32, 0.5))
        whole = builder.fptosi(builder.fadd(args[2], half), _SUMS)
        target = element(context, builder, signature, args, _BYTES)
        builder.store(builder.trunc(whole, _BYTES), target, align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, _means), generate


@intrinsic
def store_planes(typing: Any, array: Any, index: Any, plane: Any, means: Any) -> Any:
    """Write the first three float32 into a contiguous array, `plane` elements apart."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data, index, plane, means = args
        array = context.make_array(signature.args[0])(context, builder, data)
        for lane in range(3):
            value = builder.extract_element(means, _I32(lane))
            builder.store(value, builder.gep(array.data, [index]))
            index = builder.add(index, plane)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, _means), generate
