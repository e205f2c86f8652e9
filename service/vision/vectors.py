"""Intrinsics on 512-bit vectors for compiled functions, which Numba's own types lack.

Only for processors with AVX512-VNNI: compiling a function that uses `dot` elsewhere ends the
process. A `Whole` is sixteen int32, a `Real` sixteen float32, a `Bytes` sixteen uint8; all are held
in registers.

Source of the instruction: VPDPBUSD in Intel's Intrinsics Guide: sixteen sums of four products of an
unsigned and a signed byte, added to an int32 without saturation.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import models, register_model

from service.vision.intrinsics import element, intrinsic

_declare: Any = cgutils.get_or_insert_function

_LANES = 16
_I8, _I32, _F32 = ir.IntType(8), ir.IntType(32), ir.FloatType()
_WHOLE, _REAL = ir.VectorType(_I32, _LANES), ir.VectorType(_F32, _LANES)
_BYTES = ir.VectorType(_I8, _LANES)


class _Whole(types.Type):
    def __init__(self) -> None:
        super().__init__("Whole")


class _Real(types.Type):
    def __init__(self) -> None:
        super().__init__("Real")


class _Bytes(types.Type):
    def __init__(self) -> None:
        super().__init__("Bytes")


_whole, _real, _bytes = _Whole(), _Real(), _Bytes()


@register_model(_Whole)
class _WholeModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _WHOLE)  # type: ignore[no-untyped-call]


@register_model(_Real)
class _RealModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _REAL)  # type: ignore[no-untyped-call]


@register_model(_Bytes)
class _BytesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _BYTES)  # type: ignore[no-untyped-call]


@intrinsic
def load_whole(typing: Any, array: Any, index: Any) -> Any:
    """Load sixteen int32 of an array, from an index on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(element(context, builder, signature, args, _WHOLE), align=4)

    return _whole(array, types.intp), generate


@intrinsic
def load_real(typing: Any, array: Any, index: Any) -> Any:
    """Load sixteen float32 of an array, from an index on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(element(context, builder, signature, args, _REAL), align=4)

    return _real(array, types.intp), generate


@intrinsic
def load_bytes(typing: Any, array: Any, index: Any) -> Any:
    """Load sixteen uint8 of an array, from an index on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(element(context, builder, signature, args, _BYTES), align=1)

    return _bytes(array, types.intp), generate


@intrinsic
def four_bytes(typing: Any, array: Any, index: Any) -> Any:
    """Broadcast four bytes of a uint8 array, from an index on, to every lane."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = builder.load(element(context, builder, signature, args, _I32), align=1)
        undefined = ir.Constant(_WHOLE, ir.Undefined)
        first = builder.insert_element(undefined, word, _I32(0))
        return builder.shuffle_vector(first, undefined, ir.Constant(_WHOLE, [_I32(0)] * _LANES))

    return _whole(array, types.intp), generate


@intrinsic
def dot(typing: Any, sums: Any, unsigned: Any, signed: Any) -> Any:
    """The sums plus the products of four unsigned with four signed bytes, lane by lane."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_WHOLE, (_WHOLE, _WHOLE, _WHOLE))
        name = "llvm.x86.avx512.vpdpbusd.512"
        return builder.call(_declare(builder.module, kind, name), args)

    return _whole(_whole, _whole, _whole), generate


@intrinsic
def max_int(typing: Any, one: Any, other: Any) -> Any:
    """The maximum of two int32, lane by lane."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.icmp_signed(">", *args), *args)

    return _whole(_whole, _whole), generate


@intrinsic
def max_real(typing: Any, one: Any, other: Any) -> Any:
    """The maximum of two float32, lane by lane."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return _real(_real, _real), generate


@intrinsic
def max_bytes(typing: Any, one: Any, other: Any) -> Any:
    """The maximum of two uint8, lane by lane."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.icmp_unsigned(">", *args), *args)

    return _bytes(_bytes, _bytes), generate


@intrinsic
def prelu(typing: Any, real: Any, slope: Any) -> Any:
    """The values, times a slope where they are negative."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        positive = builder.fcmp_ordered(">", args[0], ir.Constant(_REAL, None))
        return builder.select(positive, args[0], builder.fmul(*args))

    return _real(_real, _real), generate


@intrinsic
def as_real(typing: Any, whole: Any) -> Any:
    """int32 to float32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.sitofp(args[0], _REAL)

    return _real(_whole), generate


@intrinsic
def mul(typing: Any, one: Any, other: Any) -> Any:
    """Product, lane by lane."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fmul(*args)

    return _real(_real, _real), generate


@intrinsic
def add(typing: Any, one: Any, other: Any) -> Any:
    """Sum, lane by lane."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fadd(*args)

    return _real(_real, _real), generate


@intrinsic
def lanes(typing: Any, real: Any, order: Any) -> Any:
    """Lane order[i] of a vector in lane i."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_REAL, (_REAL, _WHOLE))
        name = "llvm.x86.avx512.permvar.sf.512"
        return builder.call(_declare(builder.module, kind, name), args)

    return _real(_real, _whole), generate


@intrinsic
def store_bytes(typing: Any, array: Any, index: Any, real: Any) -> Any:
    """Write sixteen float32, cut to whole numbers and to 0 to 255, into a uint8 array."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        whole = builder.fptosi(args[2], _WHOLE)
        lowest, highest = (ir.Constant(_WHOLE, [_I32(n)] * _LANES) for n in (0, 255))
        whole = builder.select(builder.icmp_signed(">", whole, lowest), whole, lowest)
        whole = builder.select(builder.icmp_signed("<", whole, highest), whole, highest)
        kind = ir.VectorType(_I8, _LANES)
        builder.store(
            builder.trunc(whole, kind), element(context, builder, signature, args, kind), align=1
        )
        return context.get_dummy_value()

    return types.void(array, types.intp, _real), generate


@intrinsic
def store_same(typing: Any, array: Any, index: Any, values: Any) -> Any:
    """Write sixteen uint8 into a uint8 array."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], element(context, builder, signature, args, _BYTES), align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, _bytes), generate


@intrinsic
def total(typing: Any, real: Any) -> Any:
    """The sum of all lanes, in an unspecified order."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_F32, (_F32, _REAL))
        name = "llvm.vector.reduce.fadd.v16f32"
        function = _declare(builder.module, kind, name)
        return builder.call(function, [_F32(0.0), args[0]], fastmath=("reassoc",))

    return types.float32(_real), generate
