"""2D kernel -> 3D kernel.

Every rule is one linear map T (K*K, K**3) applied to the flattened 2D kernel (Image2Point v1, section 3 and
listing 2), so a rule is a matrix and a learned rule is a parameter. Rows of T are the pixels (row, column) of
the 2D kernel; columns are the voxels (dx, dy, dz), z fastest.

In the plane that is perpendicular to the new axis, image rows run along the first and image columns along the
second of the two remaining axes: for axis z, (row, column) = (x, y).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

__all__ = ["AXES", "RELEASED", "RULES", "Rule", "inflate_kernel", "released_transform", "rule_matrix"]

Rule = Literal[
    "repeat",
    "mean",
    "center",
    "T1",
    "T2",
    "T3",
    "released-x-axis",
    "released-y-axis",
    "released-z-axis",
    "learned",
    "learned-shared",
]
RULES: tuple[str, ...] = get_args(Rule)
AXES: tuple[str, ...] = ("x", "y", "z")
RELEASED = {"released-x-axis": "x", "released-y-axis": "z", "released-z-axis": "y"}
"""Rules of the released code -> the axis that they really copy along."""


def _along(axis: int, kernel_size: int) -> Tensor:
    """T that copies the 2D kernel along `axis` (0, 1, 2)."""
    k = kernel_size
    plane = [d for d in range(3) if d != axis]
    matrix = torch.zeros(k, k, k, k, k)
    for x in range(k):
        for y in range(k):
            for z in range(k):
                position = (x, y, z)
                matrix[position[plane[0]], position[plane[1]], x, y, z] = 1
    return matrix.reshape(k * k, k**3)


def _diagonal(kernel_size: int) -> Tensor:
    """T that copies the 2D kernel along the diagonal of the x-z plane:
    the copy at dz is shifted by dz in x, and wraps around.
    """
    k, middle = kernel_size, kernel_size // 2
    matrix = torch.zeros(k, k, k, k, k)
    for x in range(k):
        for y in range(k):
            for z in range(k):
                matrix[(x + z - middle) % k, y, x, y, z] = 1
    return matrix.reshape(k * k, k**3)


def rule_matrix(rule: str, axis: str, kernel_size: int) -> Tensor:
    """T (K*K, K**3) float32 of a named rule.

    repeat: K copies along `axis` (both papers' default; no rescaling). mean: the same divided by K, as I3D
    does. center: one copy in the slice dz = 0, zeros elsewhere. T1, T2, T3: the handcrafted orientations of
    v1's figure 3, which the paper shows as a picture only; here T1 copies along x, T2 along y, T3 along the
    x-z diagonal, while its default T is repeat along z. released-x-axis, released-y-axis, released-z-axis:
    the options of the released code (`released_transform`), which look at no axis either.
    A learned rule starts from repeat. Raises ValueError for an unknown rule or axis.
    """
    if axis not in AXES:
        raise ValueError(f"axis must be x, y or z, got {axis!r}.")
    if rule not in RULES:
        raise ValueError(f"rule must be one of {', '.join(RULES)} or a matrix (K*K, K**3), got {rule!r}.")
    k = kernel_size
    if k == 1:
        return torch.ones(1, 1)
    if rule in RELEASED:
        return released_transform(rule.removeprefix("released-"), k)
    if rule == "T1":
        return _along(0, k)
    if rule == "T2":
        return _along(1, k)
    if rule == "T3":
        return _diagonal(k)
    along = AXES.index(axis)
    matrix = _along(along, k)
    if rule == "mean":
        return matrix / k
    if rule == "center":
        slices = matrix.reshape(k * k, k, k, k).movedim(1 + along, 0).clone()
        zero = k // 2 if k % 2 else 0  # an even kernel starts at its output voxel
        for i in range(k):
            if i != zero:
                slices[i] = 0
        return slices.movedim(0, 1 + along).reshape(k * k, k**3)
    return matrix


def released_transform(name: str, kernel_size: int = 3) -> Tensor:
    """T (K*K, K**3) of the released code's options "x-axis", "y-axis", "z-axis" in our axes (facts 1.4).

    Its names do not denote the axis that is copied: z-axis copies along y with (row, column) = (z, x), y-axis
    along z with (y, x), x-axis along x with (y, z), which is `repeat` along x. The released networks have
    kernels of 3 only; other sizes are the same rule carried over. As rules: "released-" and the name.
    Raises ValueError for another name or a size below 1.
    """
    pixel = {
        "z-axis": lambda x, y, z: (z, x),
        "y-axis": lambda x, y, z: (y, x),
        "x-axis": lambda x, y, z: (y, z),
    }
    if name not in pixel:
        raise ValueError(f"The released options are {', '.join(pixel)}, got {name!r}.")
    k = kernel_size
    if k < 1:
        raise ValueError(f"kernel_size is {k}, expected at least 1.")
    matrix = torch.zeros(k, k, k, k, k)
    for x in range(k):
        for y in range(k):
            for z in range(k):
                row, column = pixel[name](x, y, z)
                matrix[row, column, x, y, z] = 1
    return matrix.reshape(k * k, k**3)


def inflate_kernel(weight: Tensor, matrix: Tensor) -> Tensor:
    """(K**3, C_in / groups, C_out) from a Conv2d weight (C_out, C_in / groups, K,
    K) and T (K*K, K**3); differentiable in both.
    """
    return torch.einsum("oia,ad->dio", weight.flatten(2), matrix.to(weight.dtype))
