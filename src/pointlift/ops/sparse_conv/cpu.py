"""Sparse convolution in numba: gather, multiply and accumulate fused in register tiles.

Forward: a block of output rows stays in the cache while the kernel offsets pass over it; for every offset the
rows that have a partner are listed, and tiles of a few rows by a few vectors of columns are computed straight
from the gathered input rows. Nothing of the size of the pairs is ever written. Weight gradient: chunks of the
pairs of one offset, each a sum of outer products; the rows of a strip of pairs are gathered once, into the
cache, for all tiles of channels by columns.

Blocks and chunks are handed to the threads by a counter, so that real pairs and not rows are shared out, and
neither the cut nor the order of arrival changes a result: every sum is taken in a fixed order, whatever the
number of threads.

Groups become tiles of whole groups, block-diagonal where one group is narrower than a vector. There a NaN or
an infinity in one channel reaches the other channels of its tile, because 0 * NaN is NaN.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from pointlift.ops._numba.simd import (
    ROWS,
    VECTOR_BYTES,
    VECTORS,
    copy_run,
    fetch_add,
    gather_tile,
    lanes,
    outer_tile,
)
from pointlift.ops._numba.threading import set_threads
from pointlift.ops.kernel_map.api import Pairs
from pointlift.ops.sparse_pool.cpu import sum_forward

__all__ = ["forward", "input_gradient", "weight_gradient"]

_BLOCK = 256  # output rows that stay in the cache
_CHUNK = 4096  # pairs per task of the weight gradient
# pairs per partial sum of a depthwise weight gradient; fixed, so that results do not depend on the number of
# threads
_DEPTHWISE_CHUNK = 4096
_STRIP = 128  # pairs whose rows stay in the cache while the tiles of a task pass over them


class _Tiling(NamedTuple):
    """Groups joined to `sets` block-diagonal products of (inputs, columns),
    columns padded to whole vectors.
    """

    sets: int
    joined: int
    inputs: int
    columns: int
    padded: int


def _tiling(c_in: int, c_out: int, groups: int, itemsize: int) -> _Tiling:
    out = c_out // groups
    width = lanes(itemsize)
    most = max(1, width // out) if groups > 1 else 1
    joined = max(d for d in range(1, most + 1) if groups % d == 0)
    columns = joined * out
    return _Tiling(groups // joined, joined, joined * (c_in // groups), columns, -(-columns // width) * width)


def _pack(weight: Tensor, groups: int, t: _Tiling) -> Tensor:
    """(sets, K, inputs, padded) from (K, C_in / groups, C_out); a view where nothing has to move."""
    if t.sets == 1 and t.joined == 1 and t.columns == t.padded:
        return weight[None]
    k, c_group, c_out = weight.shape
    packed = weight.new_zeros(t.sets, k, t.inputs, t.padded)
    blocks = weight.reshape(k, c_group, t.sets, t.joined, c_out // groups)
    out = c_out // groups
    for i in range(t.joined):
        packed[:, :, i * c_group : (i + 1) * c_group, i * out : (i + 1) * out] = blocks[:, :, :, i].permute(
            2, 0, 1, 3
        )
    return packed


def _unpack(packed: Tensor, groups: int, t: _Tiling) -> Tensor:
    """The diagonal blocks of (sets, K, inputs, padded) as (K, C_in / groups, C_out)."""
    sets, k, _, _ = packed.shape
    c_group, out = t.inputs // t.joined, t.columns // t.joined
    if sets == 1 and t.joined == 1:
        return packed[0, :, :, :out].contiguous()
    parts = [packed[:, :, i * c_group : (i + 1) * c_group, i * out : (i + 1) * out] for i in range(t.joined)]
    return torch.stack(parts, 1).permute(2, 3, 0, 1, 4).reshape(k, c_group, groups * out)


def _pad_columns(x: Tensor, t: _Tiling) -> Tensor:
    """(M, sets * padded) from (M, sets * columns)."""
    if t.columns == t.padded:
        return x
    return torch.nn.functional.pad(x.reshape(-1, t.sets, t.columns), (0, t.padded - t.columns)).reshape(
        -1, t.sets * t.padded
    )


def _flat(x: Tensor) -> np.ndarray:
    return x.detach().numpy().reshape(-1)


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _gather_products(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    x, ldx, w, inputs, padded, table, y, block, counter, threads
):
    kernel, n = table.shape
    ldy = y.size // n
    sets = ldy // padded
    width = VECTOR_BYTES // x.itemsize
    span = VECTORS * width
    for _ in prange(threads):
        rows = np.empty(block + 1, np.int32)
        slots = np.empty(block + 1, np.int32)
        while True:
            start = fetch_add(counter) * block
            if start >= n:
                break
            stop = min(n, start + block)
            y[start * ldy : stop * ldy] = 0
            for k in range(kernel):
                m = 0
                for i in range(start, stop):
                    v = table[k, i]
                    rows[m] = v
                    slots[m] = i
                    m += v >= 0
                for s in range(sets):
                    base = (s * kernel + k) * inputs * padded
                    for j in range(0, padded, span):
                        vectors = min(VECTORS, (padded - j) // width)
                        for g in range(0, m, ROWS):
                            count = min(ROWS, m - g)
                            gather_tile(
                                x[s * inputs :],
                                ldx,
                                rows,
                                w,
                                base + j,
                                padded,
                                inputs,
                                y,
                                ldy,
                                slots,
                                s * padded + j,
                                g,
                                count,
                                vectors,
                            )


def forward(x: Tensor, weight: Tensor, table: Tensor, groups: int) -> Tensor:
    """(M_out, C_out) from x (M_in, C_in), weight (K, C_in / groups, C_out), table (K, M_out) int32."""
    n, c_in, c_out = table.shape[1], x.shape[1], weight.shape[2]
    if n == 0 or x.shape[0] == 0:
        return x.new_zeros(n, c_out)
    if groups == c_in == c_out and groups > 1:
        return sum_forward(x, table, weight[:, 0])
    threads = set_threads()
    t = _tiling(c_in, c_out, groups, x.element_size())
    w = _pack(weight, groups, t)
    y = x.new_empty(n, t.sets * t.padded)
    # one thread needs no small blocks to share out: each block reads all the weights
    block = min(_BLOCK, max(32, -(-n // (4 * threads if threads > 1 else 1))))
    _gather_products(
        _flat(x),
        c_in,
        _flat(w),
        t.inputs,
        t.padded,
        table.numpy(),
        _flat(y),
        block,
        np.zeros(1, np.int64),
        threads,
    )
    if t.columns == t.padded:
        return y
    return y.reshape(n, t.sets, t.padded)[:, :, : t.columns].reshape(n, c_out)


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _transpose(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    weight, k, c_group, groups, out, result
):
    # weight (K, c_group, groups, out) -> result (K, out, groups, c_group), both flat;
    # 16 x 16 squares stay in the cache
    for kg in prange(k * groups):
        i, g = kg // groups, kg % groups
        for c0 in range(0, c_group, 16):
            for o0 in range(0, out, 16):
                for o in range(o0, min(o0 + 16, out)):
                    target = ((i * out + o) * groups + g) * c_group
                    for c in range(c0, min(c0 + 16, c_group)):
                        result[target + c] = weight[((i * c_group + c) * groups + g) * out + o]


def input_gradient(grad: Tensor, weight: Tensor, reverse: Tensor, groups: int) -> Tensor:
    """(M_in, C_in) from grad (M_out, C_out) and the reverse table (K, M_in)."""
    k, c_group, c_out = weight.shape
    if c_group == 1 and c_out == groups:
        return forward(grad, weight, reverse, groups)
    set_threads()
    turned = weight.new_empty(k, c_out // groups, groups * c_group)
    _transpose(_flat(weight), k, c_group, groups, c_out // groups, _flat(turned))
    return forward(grad, turned, reverse, groups)


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _outer_products(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    x, ldx, g, ldg, rows, slots, tasks, inputs, padded, strip, out, counter, threads
):
    # tasks (T, 6): first pair, last pair, channel of x, column of g, offset in out, vectors
    width = VECTOR_BYTES // x.itemsize
    panel = VECTORS * width
    # the rows of a strip side by side: one cache line more than they need, so that rows of a power of two
    # channels do not fall into the same few sets of the cache
    ld = -(-inputs // 16) * 16 + 16
    order = np.arange(strip).astype(np.int32)
    packed = inputs > ROWS  # else every number is used but once
    for _ in prange(threads):
        left = np.empty(strip * ld, x.dtype)
        right = np.empty(strip * -(-padded // panel) * panel, x.dtype)
        while True:
            t = fetch_add(counter)
            if t >= tasks.shape[0]:
                break
            begin, end, channel, column, offset, span = (
                tasks[t, 0],
                tasks[t, 1],
                tasks[t, 2],
                tasks[t, 3],
                tasks[t, 4],
                tasks[t, 5],
            )
            for p in range(begin, end, strip):
                length = min(strip, end - p)
                for i in range(length if packed else 0):
                    copy_run(left, i * ld, x, rows[p + i] * ldx + channel, inputs)
                    source = slots[p + i] * ldg + column
                    for v in range(0, span, VECTORS):
                        size = min(VECTORS, span - v) * width
                        copy_run(right, v * width * strip + i * panel, g, source + v * width, size)
                for v in range(0, span, VECTORS):
                    vectors = min(VECTORS, span - v)
                    for c in range(0, inputs, ROWS):
                        if packed:
                            outer_tile(
                                left, ld, order, right, panel, order, 0, length, c, v * width * strip,
                                out, offset + c * padded + v * width, padded, min(ROWS, inputs - c), vectors,
                            )  # fmt: skip
                        else:
                            outer_tile(
                                x, ldx, rows, g, ldg, slots, p, length, channel + c, column + v * width,
                                out, offset + c * padded + v * width, padded, min(ROWS, inputs - c), vectors,
                            )  # fmt: skip


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _add_parts(out, parts, first, size):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # out (slots, size) += the parts (sum of counts, size) of each slot in rising order; first (slots + 1,)
    for s in prange(first.size - 1):
        for p in range(first[s], first[s + 1]):
            for c in range(size):
                out[s * size + c] += parts[p * size + c]


def _tasks(start: list[int], t: _Tiling, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Chunks of the pairs of every set and offset, and where the chunks after the first begin in the extra
    memory.

    Task rows: first and last pair, channel of x, column of g, element of the result (the first chunk writes
    to its place, the others to `sets * K + part`), vectors of columns.
    """
    kernel = len(start) - 1
    low = np.asarray(start[:-1])
    chunks = -(-np.diff(start) // _CHUNK)
    extra = np.tile(np.maximum(chunks - 1, 0), t.sets)
    first = np.concatenate([[0], np.cumsum(extra)])
    rows = []
    for s in range(t.sets):
        for k in np.flatnonzero(chunks):
            edges = np.linspace(low[k], start[k + 1], chunks[k] + 1).astype(np.int64)
            slot = s * kernel + k
            places = np.concatenate([[slot], t.sets * kernel + first[slot] + np.arange(chunks[k] - 1)])
            for i in range(chunks[k]):
                rows.append((edges[i], edges[i + 1], s * t.inputs, s * t.padded, places[i] * size))
    return np.asarray(rows, np.int64).reshape(-1, 5), first


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _scale_pairs(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    x, g, rows, slots, tasks, parts, counter, threads
):
    # tasks (T, 2): first and last pair; parts (T, C)
    channels = x.shape[1]
    for _ in prange(threads):
        while True:
            t = fetch_add(counter)
            if t >= tasks.shape[0]:
                break
            for p in range(tasks[t, 0], tasks[t, 1]):
                i, o = rows[p], slots[p]
                for c in range(channels):
                    parts[t, c] += x[i, c] * g[o, c]


def _depthwise_gradient(x: Tensor, grad: Tensor, pairs: Pairs) -> Tensor:
    """One filter per channel, so rows are scaled and added instead of multiplied as matrices:
    (K, C) from x (M_in, C) and grad (M_out, C).
    """
    tasks, owner = [], []
    for k, (a, b) in enumerate(zip(pairs.start, pairs.start[1:])):
        tasks += [(p, min(p + _DEPTHWISE_CHUNK, b)) for p in range(a, b, _DEPTHWISE_CHUNK)]
        owner += [k] * -(-(b - a) // _DEPTHWISE_CHUNK)
    parts = x.new_zeros(len(tasks), x.shape[1])
    out = x.new_zeros(len(pairs.start) - 1, x.shape[1])
    if tasks:
        _scale_pairs(
            x.detach().numpy(), grad.numpy(), pairs.source.numpy(), pairs.target.numpy(),
            np.asarray(tasks, np.int64), parts.numpy(), np.zeros(1, np.int64), set_threads(),
        )  # fmt: skip
        np.add.at(out.numpy(), np.asarray(owner), parts.numpy())  # in the order of the chunks
    return out


def weight_gradient(x: Tensor, grad: Tensor, pairs: Pairs, groups: int) -> Tensor:
    """(K, C_in / groups, C_out) from x (M_in, C_in) and grad (M_out, C_out)."""
    kernel, c_in, c_out = len(pairs.start) - 1, x.shape[1], grad.shape[1]
    if groups == c_in == c_out and groups > 1:
        return _depthwise_gradient(x, grad, pairs)[:, None]
    threads = set_threads()
    t = _tiling(c_in, c_out, groups, x.element_size())
    size = t.inputs * t.padded
    tasks, first = _tasks(pairs.start, t, size)
    memory = x.new_zeros((t.sets * kernel + int(first[-1])) * size)
    tasks = _columns(tasks, t, lanes(x.element_size()), threads)
    if len(tasks):
        g = _pad_columns(grad, t)
        _outer_products(
            _flat(x), c_in, _flat(g), g.shape[1], pairs.source.numpy(), pairs.target.numpy(),
            tasks, t.inputs, t.padded, _STRIP, _flat(memory), np.zeros(1, np.int64), threads,
        )  # fmt: skip
    used = t.sets * kernel * size
    if first[-1]:
        _add_parts(_flat(memory[:used]), _flat(memory[used:]), first, size)
    return _unpack(memory[:used].reshape(t.sets, kernel, t.inputs, t.padded), groups, t)


def _columns(tasks: np.ndarray, t: _Tiling, width: int, threads: int) -> np.ndarray:
    """Every task over all columns, or, where there are few, once per span of columns that a register tile
    covers, so that few offsets still fill many threads.
    """
    vectors = t.padded // width
    span = vectors if len(tasks) >= 4 * threads else VECTORS
    parts = []
    for j in range(0, vectors, span):
        part = np.column_stack([tasks, np.full(len(tasks), min(span, vectors - j))])
        part[:, 3:5] += j * width
        parts.append(part)
    return np.concatenate(parts)
