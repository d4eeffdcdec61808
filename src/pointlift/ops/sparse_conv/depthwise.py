"""Depthwise sparse convolution in numba: one filter per channel,
so rows are scaled and added instead of multiplied as matrices.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from torch import Tensor

from pointlift.ops._numba.simd import fetch_add
from pointlift.ops._numba.threading import set_threads
from pointlift.ops.kernel_map.api import Pairs

__all__ = ["weight_gradient"]

# pairs per partial sum of the weight gradient; fixed, so that results do not depend on the number of threads
_CHUNK = 4096


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


def weight_gradient(x: Tensor, grad: Tensor, pairs: Pairs) -> Tensor:
    """(K, C) from x (M_in, C) and grad (M_out, C)."""
    tasks, owner = [], []
    for k, (a, b) in enumerate(zip(pairs.start, pairs.start[1:])):
        tasks += [(p, min(p + _CHUNK, b)) for p in range(a, b, _CHUNK)]
        owner += [k] * -(-(b - a) // _CHUNK)
    parts = x.new_zeros(len(tasks), x.shape[1])
    out = x.new_zeros(len(pairs.start) - 1, x.shape[1])
    if tasks:
        _scale_pairs(
            x.detach().numpy(), grad.numpy(), pairs.source.numpy(), pairs.target.numpy(),
            np.asarray(tasks, np.int64), parts.numpy(), np.zeros(1, np.int64), set_threads(),
        )  # fmt: skip
        np.add.at(out.numpy(), np.asarray(owner), parts.numpy())  # in the order of the chunks
    return out
