"""How other sparse libraries number the offsets of a kernel,
and the permutation from their weights to pointlift's.

pointlift stores weights (K, C_in, C_out) with offsets in lexicographic order of (dx, dy, dz), z fastest, like
a flattened `Conv3d` weight over axes x, y, z. Everything here is index arithmetic (facts 0.2-0.5).
"""

from __future__ import annotations

import itertools
from typing import Literal, get_args

import torch
from torch import Tensor

__all__ = ["KernelSource", "kernel_order"]

KernelSource = Literal["minkowski", "minkowski-hybrid", "torchsparse", "spconv", "dense"]


def kernel_order(source: KernelSource, kernel_size: int) -> Tensor:
    """(kernel_size**3,) int64 `perm` with `W_pointlift = W_source[perm]`,
    rows being the offsets of a cubic kernel.

    source:
        "minkowski"         HYPER_CUBE of MinkowskiEngine: x fastest, odd and even kernels
        "minkowski-hybrid"  RegionType.HYBRID of its 0.4 series (PointContrast's residual blocks):
                            origin first; odd kernels only
        "torchsparse"       x fastest for odd kernels, z fastest for even ones (1.2 and later)
        "spconv"            (K0, K1, K2) flattened, the first coordinate slowest, with coordinates given as
                            z, y, x, as is usual there
        "dense"             a flattened `Conv3d` weight over axes x, y, z (and spconv fed with x, y, z):
                            the identity

    Raises ValueError for an unknown source, a kernel size below 1, and an even hybrid kernel.
    """
    if source not in get_args(KernelSource):
        raise ValueError(
            f"Unknown source of kernels {source!r}: expected one of {', '.join(get_args(KernelSource))}."
        )
    if kernel_size < 1:
        raise ValueError(f"kernel_size must be at least 1, got {kernel_size}.")
    ours: list[tuple[int, ...]] = list(itertools.product(range(kernel_size), repeat=3))
    if source == "dense" or (source == "torchsparse" and kernel_size % 2 == 0):
        theirs = ours
    elif source == "minkowski-hybrid":
        theirs = _hybrid_offsets(kernel_size)
    else:
        theirs = [(x, y, z) for z, y, x in ours]
    row = {offset: i for i, offset in enumerate(theirs)}
    return torch.tensor([row[offset] for offset in ours], dtype=torch.int64)


def _hybrid_offsets(kernel_size: int) -> list[tuple[int, ...]]:
    """The stored order of a HYBRID kernel, each offset counted from the corner of the kernel.

    The generator starts at the origin and, axis by axis, appends every offset so far moved along that axis.
    """
    if kernel_size % 2 == 0:
        raise ValueError(
            f"A hybrid kernel is centred and so has an odd size, got {kernel_size}: "
            "use 'minkowski' for even kernels."
        )
    half = kernel_size // 2
    offsets: list[tuple[int, ...]] = [(0, 0, 0)]
    for axis in range(3):
        offsets += [o[:axis] + (d,) + o[axis + 1 :] for o in offsets for d in range(-half, half + 1) if d]
    return [(x + half, y + half, z + half) for x, y, z in offsets]
