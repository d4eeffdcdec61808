"""Lists of the k smallest distances, kept in order in vector registers.

A list is `width` lanes (8, 16, 32 or 64) of distances and of int32 rows: -inf in front where the list is
shorter, then rising distances, equal ones by rising row, +inf where nothing is held yet. A new entry goes in
without a branch: lane i becomes min(lane i, max(entry, lane i - 1)). In float32 an entry is one int64, the
bits of the distance above the row: distances are not negative, so that integers compare as (distance, row)
does.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

__all__ = ["WIDTHS", "hold"]

WIDTHS = (8, 16, 32, 64)  # powers of two: others are taken apart into scalars by LLVM
I32, I64 = ir.IntType(32), ir.IntType(64)


def _whole(builder: ir.IRBuilder, scalar: ir.Value, width: int) -> ir.Value:
    vector = ir.VectorType(scalar.type, width)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(
        one, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(I32, width), [0] * width)
    )


def _shifted(builder: ir.IRBuilder, value: ir.Value, first: ir.Value) -> ir.Value:
    """Lane i - 1 in lane i, and `first` in lane 0."""
    width = value.type.count
    start = builder.insert_element(ir.Constant(value.type, ir.Undefined), first, ir.Constant(I32, 0))
    return builder.shuffle_vector(
        value, start, ir.Constant(ir.VectorType(I32, width), [width, *range(width - 1)])
    )


def _pick(builder: ir.IRBuilder, relation: str, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.select(builder.icmp_signed(relation, a, b), a, b)


def _packed(builder: ir.IRBuilder, distance: ir.Value, row: ir.Value) -> ir.Value:
    """(bits of the distance << 32) | row, of scalars or vectors."""

    def like(kind: ir.Type) -> ir.Type:
        return ir.VectorType(kind, row.type.count) if isinstance(row.type, ir.VectorType) else kind

    high = builder.zext(builder.bitcast(distance, like(I32)), like(I64))
    by = ir.Constant(I64, 32)
    shift = _whole(builder, by, row.type.count) if isinstance(row.type, ir.VectorType) else by
    return builder.or_(builder.shl(high, shift), builder.zext(row, like(I64)))


def _enter_packed(
    builder: ir.IRBuilder, held: list[ir.Value], distance: ir.Value, row: ir.Value
) -> list[ir.Value]:
    (keys,) = held
    entry = _whole(builder, _packed(builder, distance, row), keys.type.count)
    before = _shifted(builder, keys, ir.Constant(I64, -(2**63)))
    return [_pick(builder, "<", keys, _pick(builder, ">", entry, before))]


def _enter_pairs(
    builder: ir.IRBuilder, held: list[ir.Value], distance: ir.Value, row: ir.Value
) -> list[ir.Value]:
    distances, rows = held
    width = rows.type.count
    d, r = _whole(builder, distance, width), _whole(builder, row, width)
    same = builder.and_(builder.fcmp_ordered("==", distances, d), builder.icmp_signed("<", rows, r))
    stays = builder.or_(builder.fcmp_ordered("<", distances, d), same)
    enters = _shifted(builder, stays, ir.Constant(ir.IntType(1), 1))
    return [
        builder.select(
            stays, own, builder.select(enters, new, _shifted(builder, own, own.type.element(ir.Undefined)))
        )
        for own, new in ((distances, d), (rows, r))
    ]


@intrinsic
def _hold(typingctx, bits, d, rows, at, near, who, slot, width):  # type: ignore[no-untyped-def]
    """Put (d[i], rows[at + i]), for every bit i that is set,
    into the list near[slot:slot + width], who[slot:slot + width].

    bits: not 0. d, near: float32 or float64; rows, who: int32; all flat. width: one of WIDTHS.
    """
    sig = types.void(types.int64, d, rows, types.int64, near, who, types.int64, types.int64)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        dp, rp, np_, wp = (
            context.make_array(signature.args[i])(context, builder, args[i]).data for i in (1, 2, 4, 5)
        )
        rp, np_, wp = builder.gep(rp, [args[3]]), builder.gep(np_, [args[6]]), builder.gep(wp, [args[6]])
        single = signature.args[1].dtype == types.float32
        after = builder.append_basic_block("held")
        switch = builder.switch(args[7], after)
        for lanes in WIDTHS:
            block = builder.append_basic_block(f"hold_{lanes}")
            switch.add_case(ir.Constant(I64, lanes), block)
            builder.position_at_end(block)
            _loop(builder, args[0], dp, rp, np_, wp, lanes, single)
            builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return sig, codegen


def _loop(
    builder: ir.IRBuilder,
    bits: ir.Value,
    d: ir.Value,
    rows: ir.Value,
    near: ir.Value,
    who: ir.Value,
    lanes: int,
    single: bool,
) -> None:
    scalar = ir.FloatType() if single else ir.DoubleType()
    places = [
        builder.bitcast(p, ir.VectorType(t, lanes).as_pointer()) for p, t in ((near, scalar), (who, I32))
    ]
    loaded = []
    for place, align in zip(places, (4 if single else 8, 4)):
        value = builder.load(place)
        value.align = align
        loaded.append(value)
    start = [_packed(builder, *loaded)] if single else loaded
    before, body, done = (
        builder.block,
        builder.append_basic_block("enter"),
        builder.append_basic_block("entered"),
    )
    builder.branch(body)
    builder.position_at_end(body)
    left = builder.phi(I64)
    held = [builder.phi(v.type) for v in start]
    place = builder.cttz(left, ir.Constant(ir.IntType(1), 1))
    distance, row = builder.load(builder.gep(d, [place])), builder.load(builder.gep(rows, [place]))
    new = (_enter_packed if single else _enter_pairs)(builder, held, distance, row)
    rest = builder.and_(left, builder.sub(left, ir.Constant(I64, 1)))
    left.add_incoming(bits, before)
    left.add_incoming(rest, body)
    for phi, first, later in zip(held, start, new):
        phi.add_incoming(first, before)
        phi.add_incoming(later, body)
    builder.cbranch(builder.icmp_unsigned("!=", rest, ir.Constant(I64, 0)), body, done)
    builder.position_at_end(done)
    if single:
        keys = new[0]
        by = _whole(builder, ir.Constant(I64, 32), lanes)
        high = builder.trunc(builder.lshr(keys, by), ir.VectorType(I32, lanes))
        new = [
            builder.bitcast(high, ir.VectorType(scalar, lanes)),
            builder.trunc(keys, ir.VectorType(I32, lanes)),
        ]
    for place, value, align in zip(places, new, (4 if single else 8, 4)):
        store = builder.store(value, place)
        store.align = align


hold: Any = _hold  # an intrinsic is called without its typing context, which type checkers cannot know
