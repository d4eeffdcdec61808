"""Subsets for few-shot and low-data experiments: seeded, drawn per class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["fraction", "holdout", "k_shot"]

Labels = Sequence[int] | npt.NDArray[np.integer]
Indices = npt.NDArray[np.int64]


def k_shot(labels: Labels, k: int, seed: int, classes: Sequence[str] | None = None) -> Indices:
    """Indices of ``k`` clouds of every class, drawn without replacement.

    The clouds drawn for a class depend on the seed, the class and how many clouds it has, not on other
    classes; a larger ``k`` with the same seed keeps those of a smaller one, so that curves over ``k`` are
    nested.

    Args:
        labels: ``(n,)`` class of every cloud; -1 (unknown) is never drawn.
        k: clouds per class.
        seed: of the draw.
        classes: names, for messages; also makes classes without a single cloud an error.

    Returns:
        ``(k * classes,)`` indices, ascending.

    Raises:
        ValueError: k < 1, no labelled clouds, or a class with fewer than ``k`` clouds.
    """
    if k < 1:
        raise ValueError(f"k is {k}, at least 1 cloud per class is expected")
    members = _members(labels, classes)
    for label, indices in members.items():
        if len(indices) < k:
            raise ValueError(
                f"class {_name(label, classes)} has {len(indices)} clouds, {k} are needed for {k}-shot; "
                "use a smaller k"
            )
    return np.sort(np.concatenate([_order(seed, label, indices)[:k] for label, indices in members.items()]))


def fraction(labels: Labels, share: float, seed: int, classes: Sequence[str] | None = None) -> Indices:
    """Indices of a share of every class, rounded to the nearest whole cloud, at least one per class.

    Nested over ``share`` like :func:`k_shot` over ``k``.

    Args:
        labels: ``(n,)`` class of every cloud; -1 (unknown) is never drawn.
        share: between 0 (exclusive) and 1.
        seed: of the draw.
        classes: names, for messages; also makes classes without a single cloud an error.

    Returns:
        indices, ascending.

    Raises:
        ValueError: a share outside (0, 1], or no labelled clouds.
    """
    if not 0 < share <= 1:
        raise ValueError(f"the share is {share}, more than 0 and at most 1 is expected (1 % is 0.01)")
    members = _members(labels, classes)
    kept = [
        _order(seed, label, indices)[: max(1, int(np.floor(share * len(indices) + 0.5)))]
        for label, indices in members.items()
    ]
    return np.sort(np.concatenate(kept))


def holdout(
    labels: Labels, share: float, seed: int, classes: Sequence[str] | None = None
) -> tuple[Indices, Indices]:
    """Split into (kept, held out), with about ``share`` of every class held out:
    at least one, and at least one kept.

    Raises:
        ValueError: a share outside (0, 1), or a class with a single cloud, which cannot be on both sides.
    """
    if not 0 < share < 1:
        raise ValueError(f"the held-out share is {share}, between 0 and 1 is expected")
    members = _members(labels, classes)
    held = []
    for label, indices in members.items():
        if len(indices) < 2:
            raise ValueError(
                f"class {_name(label, classes)} has 1 cloud, at least 2 are needed to hold one out; "
                "add clouds"
            )
        count = min(max(1, int(np.floor(share * len(indices) + 0.5))), len(indices) - 1)
        held.append(_order(seed, label, indices)[:count])
    out = np.sort(np.concatenate(held))
    everything = np.concatenate(list(members.values()))
    return np.setdiff1d(everything, out), out


def _members(labels: Labels, classes: Sequence[str] | None) -> dict[int, Indices]:
    values = np.asarray(labels, dtype=np.int64)
    names = range(len(classes)) if classes is not None else np.unique(values[values >= 0]).tolist()
    members = {int(label): np.flatnonzero(values == label).astype(np.int64) for label in names}
    empty = next((label for label, indices in members.items() if not len(indices)), None)
    if empty is not None:
        raise ValueError(f"class {_name(empty, classes)} has no clouds, at least 1 is expected")
    if not members:
        raise ValueError("there are no labelled clouds to draw from")
    return members


def _order(seed: int, label: int, indices: Indices) -> Indices:
    """The members of a class in the order in which the seed draws them."""
    return np.random.default_rng([seed, label]).permutation(indices)


def _name(label: int, classes: Sequence[str] | None) -> str:
    return repr(classes[label]) if classes is not None else str(label)
