"""Building blocks of the numba kernels that numba itself cannot express:
register tiles of vector FMAs and a shared counter.

Numba leaves the choice of registers to LLVM's vectoriser, which keeps the accumulators of a small matrix
product in memory. The intrinsics below emit LLVM vector code whose accumulators stay in registers, at any
ISA: the tile (ROWS x VECTORS vectors of `VECTOR_BYTES`) fits the register file of the host. They are pure
LLVM IR, so nothing has to be compiled at installation.

Every output element is one chain of multiply-adds in rising order of the summed index, whatever the tile it
falls into: results do not depend on how the work is cut.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

__all__ = ["ROWS", "VECTORS", "VECTOR_BYTES", "copy_run", "fetch_add", "gather_tile", "lanes", "outer_tile"]


def _register_tile() -> tuple[int, int, int]:
    """Bytes per vector, rows and vectors of a tile: rows * vectors accumulators,
    the vectors of one row and one spare fit.
    """
    has = llvm.get_host_cpu_features()
    if has.get("avx512f"):
        return 64, 6, 4  # 32 registers
    if has.get("avx2") or has.get("avx"):
        return 32, 6, 2  # 16 registers
    if has.get("neon"):
        return 16, 6, 4  # 32 registers
    return 16, 6, 2


VECTOR_BYTES, ROWS, VECTORS = _register_tile()


def lanes(itemsize: int) -> int:
    """Elements of `itemsize` bytes in one vector."""
    return VECTOR_BYTES // itemsize


I64 = ir.IntType(64)


def _float(ty: types.Array) -> tuple[ir.Type, int]:
    return (
        (ir.FloatType(), VECTOR_BYTES // 4)
        if ty.dtype == types.float32
        else (ir.DoubleType(), VECTOR_BYTES // 8)
    )


def _data(context: Any, builder: ir.IRBuilder, ty: types.Array, value: ir.Value) -> ir.Value:
    return context.make_array(ty)(context, builder, value).data


def _muladd(builder: ir.IRBuilder, vector: ir.VectorType) -> ir.Function:
    scalar = "f32" if isinstance(vector.element, ir.FloatType) else "f64"
    name = f"llvm.fmuladd.v{vector.count}{scalar}"
    found = builder.module.globals.get(name)
    return (
        found
        if found is not None
        else ir.Function(builder.module, ir.FunctionType(vector, [vector] * 3), name)
    )


def _splat(builder: ir.IRBuilder, scalar: ir.Value, width: int) -> ir.Value:
    vector = ir.VectorType(scalar.type, width)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), mask)


def _at(builder: ir.IRBuilder, base: ir.Value, offset: ir.Value, vector: ir.Type | None = None) -> ir.Value:
    pointer = builder.gep(base, [offset])
    return pointer if vector is None else builder.bitcast(pointer, vector.as_pointer())


def _cases(builder: ir.IRBuilder, selector: ir.Value, count: int, emit: Callable[[int], None]) -> None:
    """Emit `emit(1)` ... `emit(count)`, of which the one that equals `selector` runs."""
    after = builder.append_basic_block("tile_done")
    switch = builder.switch(selector, after)
    for value in range(1, count + 1):
        block = builder.append_basic_block(f"tile_{value}")
        switch.add_case(ir.Constant(I64, value), block)
        builder.position_at_end(block)
        emit(value)
        builder.branch(after)
    builder.position_at_end(after)


def _product(
    builder: ir.IRBuilder,
    shape: tuple[int, int],
    vector: ir.VectorType,
    length: ir.Value,
    left: Callable[[int, ir.Value], ir.Value],
    right: Callable[[ir.Value], ir.Value],
    target: Callable[[int], ir.Value],
) -> None:
    """target(r)[:] += sum over l < length of *left(r, l) * right(l)[:], for shape = (rows, vectors),
    sums in registers.
    """
    rows, vectors = shape
    width = vector.count
    align = 4 if isinstance(vector.element, ir.FloatType) else 8  # rows start at any element
    muladd = _muladd(builder, vector)
    zero = ir.Constant(vector, [0.0] * width)
    before = builder.block
    loop, done = builder.append_basic_block("product"), builder.append_basic_block("product_done")
    builder.cbranch(builder.icmp_signed(">", length, ir.Constant(I64, 0)), loop, done)

    builder.position_at_end(loop)
    index = builder.phi(I64)
    index.add_incoming(ir.Constant(I64, 0), before)
    sums = [builder.phi(vector) for _ in range(rows * vectors)]
    base = right(index)
    parts = []
    for v in range(vectors):
        part = builder.load(_at(builder, base, ir.Constant(I64, v * width), vector))
        part.align = align
        parts.append(part)
    new = []
    for r in range(rows):
        factor = _splat(builder, builder.load(left(r, index)), width)
        new += [builder.call(muladd, [factor, parts[v], sums[r * vectors + v]]) for v in range(vectors)]
    following = builder.add(index, ir.Constant(I64, 1))
    for phi, value in zip(sums, new):
        phi.add_incoming(zero, before)
        phi.add_incoming(value, builder.block)
    index.add_incoming(following, builder.block)
    last = builder.block
    builder.cbranch(builder.icmp_signed("<", following, length), loop, done)

    builder.position_at_end(done)
    totals = []
    for value in new:
        phi = builder.phi(vector)
        phi.add_incoming(zero, before)
        phi.add_incoming(value, last)
        totals.append(phi)
    for r in range(rows):
        start = target(r)
        for v in range(vectors):
            pointer = _at(builder, start, ir.Constant(I64, v * width), vector)
            old = builder.load(pointer)
            old.align = align
            store = builder.store(builder.fadd(old, totals[r * vectors + v]), pointer)
            store.align = align


@intrinsic
def _gather_tile(  # type: ignore[no-untyped-def]
    typingctx, x, ldx, rows, w, offset, ldw, length, y, ldy, slots, column, first, count, vectors
):
    """y[slots[i] * ldy + column + :] += sum over l of x[rows[i] * ldx + l] * w[offset + l * ldw + :],
    for i in first:first + count.

    x, w, y: flat arrays of one float dtype. rows, slots: int32 row numbers.
    count: 1..ROWS. vectors: 1..VECTORS vectors of columns.
    """
    sig = types.void(
        x,
        types.int64,
        rows,
        w,
        types.int64,
        types.int64,
        types.int64,
        y,
        types.int64,
        slots,
        *[types.int64] * 4,
    )

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        a = signature.args
        scalar, width = _float(a[0])
        vector = ir.VectorType(scalar, width)
        xp, rp, wp, yp, sp = (_data(context, builder, a[i], args[i]) for i in (0, 2, 3, 7, 9))
        ldx_, offset_, ldw_, length_, ldy_, column_, first_ = (args[i] for i in (1, 4, 5, 6, 8, 10, 11))

        def row(base, table, r, ld):  # type: ignore[no-untyped-def]
            number = builder.load(_at(builder, table, builder.add(first_, ir.Constant(I64, r))))
            return _at(builder, base, builder.mul(builder.sext(number, I64), ld))

        def emit_rows(n_vectors: int) -> Callable[[int], None]:
            def emit(n_rows: int) -> None:
                left = [row(xp, rp, r, ldx_) for r in range(n_rows)]
                base = _at(builder, wp, offset_)
                _product(
                    builder,
                    (n_rows, n_vectors),
                    vector,
                    length_,
                    lambda r, i: _at(builder, left[r], i),
                    lambda i: _at(builder, base, builder.mul(i, ldw_)),
                    lambda r: _at(builder, row(yp, sp, r, ldy_), column_),
                )

            return emit

        _cases(builder, args[13], VECTORS, lambda v: _cases(builder, args[12], ROWS, emit_rows(v)))
        return context.get_dummy_value()

    return sig, codegen


@intrinsic
def _outer_tile(  # type: ignore[no-untyped-def]
    typingctx, x, ldx, rows, g, ldg, slots, first, length, channel, column, out, offset, ldo, count, vectors
):
    """out[offset + c * ldo + :] += sum over p in first:first + length of x[rows[p] * ldx + channel + c] *
    g[slots[p] * ldg + column + :].

    For c < count (1..ROWS) and `vectors` (1..VECTORS) vectors of columns; arrays as in `gather_tile`.
    """
    sig = types.void(x, types.int64, rows, g, types.int64, slots, *[types.int64] * 4, out, *[types.int64] * 4)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        a = signature.args
        scalar, width = _float(a[0])
        vector = ir.VectorType(scalar, width)
        xp, rp, gp, sp, op = (_data(context, builder, a[i], args[i]) for i in (0, 2, 3, 5, 10))
        ldx_, ldg_, first_, length_, channel_, column_, offset_, ldo_ = (
            args[i] for i in (1, 4, 6, 7, 8, 9, 11, 12)
        )
        xp, gp = _at(builder, xp, channel_), _at(builder, gp, column_)
        rp, sp = _at(builder, rp, first_), _at(builder, sp, first_)

        def emit_rows(n_vectors: int) -> Callable[[int], None]:
            def emit(n_rows: int) -> None:
                memo: list[ir.Value] = []

                def right(i: ir.Value) -> ir.Value:
                    source = builder.sext(builder.load(_at(builder, rp, i)), I64)
                    memo[:] = [_at(builder, xp, builder.mul(source, ldx_))]
                    return _at(
                        builder, gp, builder.mul(builder.sext(builder.load(_at(builder, sp, i)), I64), ldg_)
                    )

                _product(
                    builder,
                    (n_rows, n_vectors),
                    vector,
                    length_,
                    lambda r, i: _at(builder, memo[0], ir.Constant(I64, r)),
                    right,
                    lambda r: _at(builder, op, builder.add(offset_, builder.mul(ir.Constant(I64, r), ldo_))),
                )

            return emit

        _cases(builder, args[14], VECTORS, lambda v: _cases(builder, args[13], ROWS, emit_rows(v)))
        return context.get_dummy_value()

    return sig, codegen


@intrinsic
def _copy_run(typingctx, to, at, source, start, count):  # type: ignore[no-untyped-def]
    """to[at : at + count] = source[start : start + count] of flat arrays of one dtype."""
    sig = types.void(to, types.int64, source, types.int64, types.int64)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        ends = [
            _at(builder, _data(context, builder, signature.args[i], args[i]), args[i + 1]) for i in (0, 2)
        ]
        size = context.get_abi_sizeof(context.get_data_type(signature.args[0].dtype))
        cgutils.raw_memcpy(builder, ends[0], ends[1], args[4], size)
        return context.get_dummy_value()

    return sig, codegen


@intrinsic
def _fetch_add(typingctx, counter):  # type: ignore[no-untyped-def]
    """The value of counter[0] (int64 array) before one is added to it, atomically:
    hands out tasks to threads.
    """
    sig = types.int64(counter)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        pointer = _data(context, builder, signature.args[0], args[0])
        return builder.atomic_rmw("add", pointer, ir.Constant(I64, 1), "monotonic")

    return sig, codegen


# an intrinsic is called without its typing context, which type checkers cannot know
gather_tile: Any = _gather_tile
outer_tile: Any = _outer_tile
copy_run: Any = _copy_run
fetch_add: Any = _fetch_add
