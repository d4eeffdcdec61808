"""Stacks of labelled clouds in .h5 files, as ModelNet's and ScanObjectNN's archives have them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError, DataWarning
from pointlift.data.files.formats.content import channels_first

__all__ = ["first_or_random", "read_mask", "read_stack"]

SAMPLING = ("first", "random")
# what h5py raises on files that are damaged or no .h5 files
DAMAGED = (OSError, RuntimeError, ValueError, KeyError, TypeError)


def read_stack(
    file: Path, n_classes: int, classes_of: str
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """``data`` (N, P, 3) float32 and ``label`` (N,) int64 of a file;
    further columns of ``data`` are left out.

    Args:
        file: the .h5 file.
        n_classes: labels are 0 to ``n_classes - 1``.
        classes_of: what says so, for messages.

    Raises:
        DataError: a truncated or garbage file, keys or shapes other than these, a label out of range,
            NaN or infinite coordinates.
    """
    found = _arrays(file, ("data", "label"))
    data, labels = found["data"], found["label"]
    if isinstance(data, np.ndarray) and data.ndim == 3 and channels_first(data.shape[1:]):
        warnings.warn(
            f"{file}: 'data' has shape {data.shape}, its clouds are read as stored channels first, "
            f"{data.shape[2]} points each",
            DataWarning,
            stacklevel=2,
        )
        data = data.swapaxes(1, 2)
    if (
        not isinstance(data, np.ndarray)
        or data.ndim != 3
        or data.shape[2] < 3
        or not data.shape[1]
        or data.dtype.kind not in "fiu"
    ):
        raise DataError(
            f"{file}: 'data' has shape {np.shape(data)}, numbers of shape (N, P, 3) are expected, "
            "of P points each"
        )
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu" or labels.size != len(data):
        raise DataError(
            f"{file}: 'label' has shape {np.shape(labels)}, {len(data)} whole numbers are expected, "
            "one per cloud"
        )
    labels = labels.reshape(-1).astype(np.int64)
    wrong = np.flatnonzero((labels < 0) | (labels >= n_classes))
    if len(wrong):
        label = labels[wrong[0]]
        raise DataError(
            f"{file}: the label of cloud {wrong[0]} is {label}, "
            f"0 to {n_classes - 1} is expected by {classes_of}"
        )
    data = data[:, :, :3].astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(data).all(axis=(1, 2)))
    if len(bad):
        rows = ~np.isfinite(data[bad[0]]).all(axis=1)
        raise DataError(
            f"{file}: {len(bad)} of {len(data)} clouds have NaN or infinite coordinates, "
            f"the first is cloud {bad[0]} ({rows.sum()} points, the first at row {np.flatnonzero(rows)[0]})"
        )
    return data, labels


def read_mask(file: Path, shape: tuple[int, int]) -> npt.NDArray[np.int64]:
    """``mask`` (N, P) int64 of a file whose ``data`` has this shape; what its values mean is the dataset's.

    Raises:
        DataError: no mask, one that is no whole numbers, or one of another shape.
    """
    mask = _arrays(file, ("mask",))["mask"]
    whole = isinstance(mask, np.ndarray) and (
        mask.dtype.kind in "iu" or (mask.dtype.kind == "f" and bool((mask == np.round(mask)).all()))
    )
    if not whole or mask.shape != shape:
        raise DataError(
            f"{file}: 'mask' has shape {np.shape(mask)}, whole numbers of shape {shape} are expected, "
            "one per point"
        )
    return np.asarray(mask).astype(np.int64)


def first_or_random(
    sampling: str, n_points: int | None, stored: int, seed: int, index: int, file: Path
) -> npt.NDArray[np.int64] | slice:
    """Which rows of a cloud of ``stored`` points are taken:
    all (None), the first, or random ones drawn from (seed, index).

    Raises:
        ValueError: another sampling than ``"first"`` and ``"random"``, or n_points below 1.
        DataError: fewer points stored than asked for.
    """
    if sampling not in SAMPLING:
        raise ValueError(f"sampling is {sampling!r}, 'first' or 'random' is expected")
    if n_points is None:
        return slice(None)
    if n_points < 1:
        raise ValueError(f"n_points is {n_points}, at least 1 is expected")
    if stored < n_points:
        raise DataError(
            f"{file}: its clouds have {stored} points, {n_points} were asked for; ask for at most {stored}"
        )
    if sampling == "first":
        return slice(n_points)
    return np.random.default_rng([seed, index]).permutation(stored)[:n_points]


def _arrays(file: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    """The arrays of a file by key. DataError where one of the keys is not in it, or nothing can be read."""
    wanted = " and ".join(repr(key) for key in keys)
    try:
        with h5py.File(file, "r") as content:
            if any(key not in content for key in keys):
                raise DataError(
                    f"{file}: {wanted} are expected in it, it has {', '.join(content) or 'nothing'}"
                )
            return {key: content[key][()] for key in keys}
    except DataError:
        raise
    except DAMAGED as error:
        raise DataError(
            f"{file}: empty, truncated or not an .h5 file ({str(error).splitlines()[0]})"
        ) from None
