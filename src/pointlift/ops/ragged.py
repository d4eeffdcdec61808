"""What every operation on ragged clouds asks of its arguments, in one sentence per mistake."""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = [
    "check_clouds",
    "check_count",
    "check_members",
    "check_offsets",
    "check_positive",
    "check_rotations",
    "check_size",
    "check_values",
    "sizes",
    "trusted",
    "trusted_values",
]

FLOATS = (torch.float32, torch.float64)


_trusts: contextvars.ContextVar[bool] = contextvars.ContextVar("pointlift_trusted_values", default=False)


@contextlib.contextmanager
def trusted_values() -> Iterator[None]:
    """Operations inside the block look at shapes and dtypes only where looking at values would wait for a
    device.

    For callers whose clouds were checked once, such as networks given a PointBatch. On the CPU, where a look
    costs next to nothing and kernels would read beside their arrays, everything is checked as ever.
    """
    token = _trusts.set(True)
    try:
        yield
    finally:
        _trusts.reset(token)


def trusted(tensor: Tensor) -> bool:
    """Whether the values of `tensor` are not to be looked at."""
    return tensor.device.type != "cpu" and _trusts.get()


def sizes(offsets: Tensor) -> list[int]:
    """Number of points of every cloud."""
    ends: list[int] = offsets.tolist()
    return [b - a for a, b in itertools.pairwise(ends)]


def check_count(name: str, value: int, least: int = 1) -> None:
    """Raises ValueError unless `value` is an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}.")


def check_positive(name: str, value: float, unit: str) -> None:
    """Raises ValueError unless `value` is a finite number above 0; unit: in what it is measured, in words."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (number and math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a positive number in {unit}, got {value!r}.")


def check_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width of pictures. Raises ValueError for less than a pixel."""
    height, width = (size, size) if isinstance(size, int) else size
    check_count("height", height)
    check_count("width", width)
    return height, width


def check_rotations(rotations: Tensor) -> None:
    """Raises ValueError unless rotations are finite floats (V, 3, 3)."""
    finite = rotations.is_floating_point() and bool(rotations.isfinite().all())
    if rotations.ndim != 3 or rotations.shape[1:] != (3, 3) or not finite:
        raise ValueError(
            "rotations must be finite floats of shape (V, 3, 3), "
            f"got {tuple(rotations.shape)} of {rotations.dtype}."
        )


def check_offsets(offsets: Tensor, name: str = "offsets") -> None:
    """Raises ValueError unless offsets have shape (B + 1,) and dtype int64."""
    if offsets.ndim != 1 or offsets.numel() < 1 or offsets.dtype != torch.int64:
        raise ValueError(
            f"{name} must have shape (B + 1,) and dtype int64, got {tuple(offsets.shape)} of {offsets.dtype}."
        )


def check_clouds(name: str, xyz: Tensor, offsets: Tensor, offsets_name: str = "offsets") -> None:
    """Raises ValueError unless xyz (N, 3) are finite float coordinates that offsets (B + 1,)
    int64 cut into clouds.
    """
    if xyz.ndim != 2 or xyz.shape[1] != 3:
        raise ValueError(
            f"{name} must have shape (N, 3), got {tuple(xyz.shape)}: "
            f"join the clouds and pass their {offsets_name}."
        )
    if xyz.dtype not in FLOATS:
        raise ValueError(f"{name} must be float32 or float64, got {xyz.dtype}: convert it with .float().")
    n = xyz.shape[0]
    check_offsets(offsets, offsets_name)
    if trusted(xyz):
        return
    ends = offsets.tolist()
    if ends[0] != 0 or ends[-1] != n or any(b < a for a, b in itertools.pairwise(ends)):
        raise ValueError(
            f"{offsets_name} must rise from 0 to the number of rows of {name} ({n}), got {ends[:8]}: "
            "use PointBatch.offsets."
        )
    check_values(name, xyz)


def check_values(name: str, xyz: Tensor) -> None:
    """Raises ValueError for coordinates that are NaN or infinite, and for such whose squares are."""
    if not xyz.numel():
        return
    low, high = torch.aminmax(xyz.detach())  # NaN wins in both: one pass tells whether all is well
    reach = max(-float(low), float(high))
    if reach <= math.sqrt(torch.finfo(xyz.dtype).max) / 4:
        return
    bad = ~torch.isfinite(xyz).all(1)
    if bool(bad.any()):
        raise ValueError(
            f"{int(bad.sum())} of {xyz.shape[0]} rows of {name} have NaN or infinite coordinates (first: row "
            f"{int(bad.nonzero()[0])}): remove them."
        )
    raise ValueError(
        f"{name} has a coordinate of {reach:.4g}, whose square overflows {xyz.dtype}: scale the cloud down."
    )


def check_members(
    name: str,
    query: Tensor,
    points: Tensor,
    query_offsets: Tensor,
    offsets: Tensor,
    least: int = 1,
    hint: str = "",
) -> None:
    """Raises ValueError unless both are clouds of one batch, of one dtype and device,
    and every cloud that is asked has `least` points.
    """
    check_clouds("query", query, query_offsets, "query_offsets")
    check_clouds("points", points, offsets)
    if query.dtype != points.dtype or query.device != points.device:
        raise ValueError(
            f"query ({query.dtype} on {query.device}) and points ({points.dtype} on {points.device}) must "
            "share dtype and device: convert one."
        )
    if query_offsets.numel() != offsets.numel():
        raise ValueError(
            "query_offsets and offsets must cut as many clouds, "
            f"got {query_offsets.numel() - 1} and {offsets.numel() - 1}: "
            "a cloud without queries has an empty range."
        )
    if trusted(points):
        return
    for b, (asked, present) in enumerate(zip(sizes(query_offsets), sizes(offsets))):
        if asked and not present:
            raise ValueError(
                f"Cloud {b} has {asked} query points but no points: {name} needs at least one; "
                "leave empty clouds out."
            )
        if asked and present < least:
            raise ValueError(
                f"Cloud {b} has {present} points, fewer than the {least} that {name} was asked for: {hint}."
            )
