"""64 points at a time: distances, minima and comparisons whose outcome is a bit per point.

Numba turns a loop that stores the numbers of matching points into one scalar branch per point. The intrinsics
below compare 64 values with a few vector instructions and return the outcomes as the bits of an int64, which
costs one step per match instead. They are plain LLVM vector code of 64 lanes, cut by LLVM into the registers
that the host has.

No operation is contracted or reordered: a squared distance is (dx*dx + dy*dy) + dz*dz with every step
rounded, as torch computes it. Arrays are flat and of one float dtype; all of `at`, ..., `at + 63` must exist.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

__all__ = [
    "LANES",
    "advance",
    "bits_at_most",
    "bits_at_most_gap",
    "bits_below",
    "bits_equal",
    "bits_in_ball",
    "bits_near_boxes",
    "bits_within",
    "bound_of",
    "count",
    "first",
    "largest",
]

LANES = 64
I64 = ir.IntType(64)


def _array(context: Any, builder: ir.IRBuilder, ty: types.Array, value: ir.Value) -> ir.Value:
    return context.make_array(ty)(context, builder, value).data


def _vector(ty: types.Array) -> ir.VectorType:
    return ir.VectorType(ir.FloatType() if ty.dtype == types.float32 else ir.DoubleType(), LANES)


def _pointer(builder: ir.IRBuilder, base: ir.Value, at: ir.Value, vector: ir.VectorType) -> ir.Value:
    return builder.bitcast(builder.gep(base, [at]), vector.as_pointer())


def _load(builder: ir.IRBuilder, base: ir.Value, at: ir.Value, vector: ir.VectorType) -> ir.Value:
    value = builder.load(_pointer(builder, base, at, vector))
    value.align = 4 if isinstance(vector.element, ir.FloatType) else 8
    return value


def _store(builder: ir.IRBuilder, value: ir.Value, base: ir.Value, at: ir.Value) -> None:
    store = builder.store(value, _pointer(builder, base, at, value.type))
    store.align = 4 if isinstance(value.type.element, ir.FloatType) else 8


def _splat(builder: ir.IRBuilder, scalar: ir.Value) -> ir.Value:
    vector = ir.VectorType(scalar.type, LANES)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(
        one, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    )


def _smaller(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


def _larger(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _squared(
    builder: ir.IRBuilder, bases: list[ir.Value], at: ir.Value, vector: ir.VectorType, point: list[ir.Value]
) -> ir.Value:
    """Squared distances of 64 points from one."""
    squares = []
    for base, coordinate in zip(bases, point):
        difference = builder.fsub(_load(builder, base, at, vector), _splat(builder, coordinate))
        squares.append(builder.fmul(difference, difference))
    return builder.fadd(builder.fadd(squares[0], squares[1]), squares[2])


def _halves(builder: ir.IRBuilder, value: ir.Value) -> tuple[ir.Value, ir.Value]:
    half = value.type.count // 2
    undefined = ir.Constant(value.type, ir.Undefined)
    low, high = (
        builder.shuffle_vector(
            value, undefined, ir.Constant(ir.VectorType(ir.IntType(32), half), list(range(s, s + half)))
        )
        for s in (0, half)
    )
    return low, high


def _extreme(
    builder: ir.IRBuilder, value: ir.Value, better: Callable[[ir.IRBuilder, ir.Value, ir.Value], ir.Value]
) -> ir.Value:
    """The smallest or largest lane."""
    while value.type.count > 1:
        value = better(builder, *_halves(builder, value))
    return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))


def _bits(builder: ir.IRBuilder, outcome: ir.Value) -> ir.Value:
    return builder.bitcast(outcome, I64)


@intrinsic
def _advance(typingctx, x, y, z, d, at, px, py, pz):  # type: ignore[no-untyped-def]
    """d[at + i] = min(d[at + i], squared distance of point at + i from (px, py, pz));
    returns the largest of the 64.
    """
    sig = x.dtype(x, y, z, d, types.int64, x.dtype, x.dtype, x.dtype)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        a = signature.args
        vector = _vector(a[0])
        bases = [_array(context, builder, a[i], args[i]) for i in range(3)]
        old = _array(context, builder, a[3], args[3])
        new = _smaller(
            builder,
            _squared(builder, bases, args[4], vector, list(args[5:8])),
            _load(builder, old, args[4], vector),
        )
        _store(builder, new, old, args[4])
        return _extreme(builder, new, _larger)

    return sig, codegen


@intrinsic
def _bits_in_ball(typingctx, x, y, z, at, px, py, pz, bound):  # type: ignore[no-untyped-def]
    """Bit i: the squared distance of point at + i from (px, py, pz) is below `bound`."""
    sig = types.int64(x, y, z, types.int64, x.dtype, x.dtype, x.dtype, x.dtype)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        a = signature.args
        bases = [_array(context, builder, a[i], args[i]) for i in range(3)]
        distance = _squared(builder, bases, args[3], _vector(a[0]), list(args[4:7]))
        return _bits(builder, builder.fcmp_ordered("<", distance, _splat(builder, args[7])))

    return sig, codegen


@intrinsic
def _bits_within(typingctx, x, y, z, at, px, py, pz, bound, d):  # type: ignore[no-untyped-def]
    """d[i] = squared distance of point at + i from (px, py, pz), for i < 64. Bit i:
    it is not above `bound`.
    """
    sig = types.int64(x, y, z, types.int64, x.dtype, x.dtype, x.dtype, x.dtype, d)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        a = signature.args
        bases = [_array(context, builder, a[i], args[i]) for i in range(3)]
        distance = _squared(builder, bases, args[3], _vector(a[0]), list(args[4:7]))
        _store(builder, distance, _array(context, builder, a[8], args[8]), ir.Constant(I64, 0))
        return _bits(builder, builder.fcmp_ordered("<=", distance, _splat(builder, args[7])))

    return sig, codegen


def _gaps(
    builder: ir.IRBuilder,
    base: ir.Value,
    stride: ir.Value,
    at: ir.Value,
    point: list[ir.Value],
    vector: ir.VectorType,
) -> ir.Value:
    """Squared distances of a point from 64 boxes."""
    zero = ir.Constant(vector, [0.0] * LANES)
    squares = []
    for axis in range(3):
        low, high = (
            builder.add(at, builder.mul(stride, ir.Constant(I64, 2 * axis + side))) for side in (0, 1)
        )
        p = _splat(builder, point[axis])
        before = builder.fsub(_load(builder, base, low, vector), p)
        behind = builder.fsub(p, _load(builder, base, high, vector))
        gap = _larger(builder, _larger(builder, before, behind), zero)
        squares.append(builder.fmul(gap, gap))
    return builder.fadd(builder.fadd(squares[0], squares[1]), squares[2])


@intrinsic
def _bits_near_boxes(typingctx, box, stride, at, px, py, pz, bound):  # type: ignore[no-untyped-def]
    """Bit i: the squared distance of (px, py, pz) from box at + i is below bound[at + i].

    box: flat, rows of `stride` boxes: lowest x, highest x, lowest y, ...
    Rounded like the distance of a point inside: never above it.
    """
    sig = types.int64(box, types.int64, types.int64, box.dtype, box.dtype, box.dtype, bound)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        a = signature.args
        vector = _vector(a[0])
        distance = _gaps(
            builder, _array(context, builder, a[0], args[0]), args[1], args[2], list(args[3:6]), vector
        )
        limits = _array(context, builder, a[6], args[6])
        return _bits(builder, builder.fcmp_ordered("<", distance, _load(builder, limits, args[2], vector)))

    return sig, codegen


@intrinsic
def _bits_at_most_gap(typingctx, box, stride, at, px, py, pz, bound, d):  # type: ignore[no-untyped-def]
    """d[i] = squared distance of (px, py, pz) from box at + i, for i < 64. Bit i: not above `bound`.
    Boxes as in `bits_near_boxes`.
    """
    sig = types.int64(box, types.int64, types.int64, box.dtype, box.dtype, box.dtype, box.dtype, d)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        a = signature.args
        distance = _gaps(
            builder, _array(context, builder, a[0], args[0]), args[1], args[2], list(args[3:6]), _vector(a[0])
        )
        _store(builder, distance, _array(context, builder, a[7], args[7]), ir.Constant(I64, 0))
        return _bits(builder, builder.fcmp_ordered("<=", distance, _splat(builder, args[6])))

    return sig, codegen


def _comparison(relation: str) -> Any:
    @intrinsic
    def compare(typingctx, d, at, bound):  # type: ignore[no-untyped-def]
        """Bit i: d[at + i] stands in the relation to `bound`."""
        sig = types.int64(d, types.int64, d.dtype)

        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            value = _load(
                builder,
                _array(context, builder, signature.args[0], args[0]),
                args[1],
                _vector(signature.args[0]),
            )
            return _bits(builder, builder.fcmp_ordered(relation, value, _splat(builder, args[2])))

        return sig, codegen

    return compare


@intrinsic
def _largest(typingctx, d, at):  # type: ignore[no-untyped-def]
    """The largest of d[at:at + 64]."""
    sig = d.dtype(d, types.int64)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        base = _array(context, builder, signature.args[0], args[0])
        return _extreme(builder, _load(builder, base, args[1], _vector(signature.args[0])), _larger)

    return sig, codegen


@intrinsic
def _bound_of(typingctx, d, few):  # type: ignore[no-untyped-def]
    """A value that at least `few` (4, 8, 16 or 32) of d[:64] do not exceed:
    the largest of the least in `few` parts of them.
    """
    sig = d.dtype(d, types.int64)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        base = _array(context, builder, signature.args[0], args[0])
        value = _load(builder, base, ir.Constant(I64, 0), _vector(signature.args[0]))
        found = _extreme(builder, value, _larger)
        while value.type.count > 4:
            value = _smaller(builder, *_halves(builder, value))
            asked = builder.icmp_signed("==", args[1], ir.Constant(I64, value.type.count))
            found = builder.select(asked, _extreme(builder, value, _larger), found)
        return found

    return sig, codegen


@intrinsic
def _first(typingctx, bits):  # type: ignore[no-untyped-def]
    """Number of the lowest bit that is set in an int64 that is not 0."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), codegen


@intrinsic
def _count(typingctx, bits):  # type: ignore[no-untyped-def]
    """How many bits of an int64 are set."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.ctpop(args[0])

    return types.int64(types.int64), codegen


# an intrinsic is called without its typing context, which type checkers cannot know
advance: Any = _advance
bits_in_ball: Any = _bits_in_ball
bits_within: Any = _bits_within
bits_near_boxes: Any = _bits_near_boxes
bits_at_most_gap: Any = _bits_at_most_gap
bits_below: Any = _comparison("<")
bits_at_most: Any = _comparison("<=")
bits_equal: Any = _comparison("==")
largest: Any = _largest
bound_of: Any = _bound_of
first: Any = _first
count: Any = _count
