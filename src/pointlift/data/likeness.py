"""Does a cloud look like those that a network was trained with? A few numbers of its outline say so; a
network itself answers for everything it is shown, and often confidently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from pointlift.data.dataset import CloudDataset

__all__ = ["outline", "outline_ranges", "unlike"]

LOOKED_AT = 64  # training clouds, evenly over the dataset
FEWEST = 8  # of fewer clouds, nothing is said
ROOM = 1.5  # factor beyond the smallest and largest value seen that is still taken for alike
WORDS = {
    "thickness": "its thinnest side is {value:.0%} of its longest one",
    "spread": "half of its points lie within {value:.0%} of its radius",
    "radius": "its radius is {value:.3g} in the units of the file",
}
SHOWN = {"thickness": "{:.0%}", "spread": "{:.0%}", "radius": "{:.3g}"}


def outline(xyz: npt.NDArray[np.floating]) -> dict[str, float]:
    """Of a cloud ``(N, 3)``: thickness, its smallest extent along a principal axis over the largest; spread,
    the median distance of its points from their centroid over the largest one; radius, that largest distance,
    in the units of the coordinates. Empty for fewer than 4 points, or where all are equal.
    """
    if len(xyz) < 4:
        return {}
    centred = np.asarray(xyz, dtype=np.float64) - np.mean(xyz, axis=0, dtype=np.float64)
    distance = np.sqrt((centred**2).sum(1))
    radius = float(distance.max())
    if radius == 0.0:
        return {}
    axes = np.linalg.eigh(centred.T @ centred)[1]
    extents = np.ptp(centred @ axes, axis=0)
    return {
        "thickness": float(extents.min() / extents.max()),
        "spread": float(np.median(distance) / radius),
        "radius": radius,
    }


def outline_ranges(dataset: CloudDataset, scaled: bool) -> dict[str, list[float]]:
    """Smallest and largest value of every number of :func:`outline` over some clouds of a dataset; for a
    checkpoint's metadata.

    Args:
        dataset: what is trained on, as it is read.
        scaled: whether clouds are scaled to one size before the network sees them; their radius says nothing
            then.

    Returns:
        ``{name: [low, high]}``; empty for fewer than 8 clouds, of which nothing can be said.
    """
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(LOOKED_AT, len(dataset))).astype(int))
    found = [seen for row in rows if (seen := outline(dataset[int(row)].xyz))]
    if len(found) < FEWEST:
        return {}
    names = ["thickness", "spread"] if scaled else list(WORDS)
    return {name: [min(f[name] for f in found), max(f[name] for f in found)] for name in names}


def unlike(xyz: npt.NDArray[np.floating], ranges: Mapping[str, Sequence[float]]) -> str | None:
    """In what a cloud differs from all that were trained on, in words; None where it does not.

    Args:
        xyz: ``(N, 3)``, in the units of its file.
        ranges: of :func:`outline_ranges`.
    """
    seen = outline(xyz)
    for name, (low, high) in ranges.items():
        value = seen.get(name)
        if value is not None and not low / ROOM <= value <= high * ROOM:
            span = f"{SHOWN[name].format(low)} to {SHOWN[name].format(high)}"
            return f"{WORDS[name].format(value=value)}, of the training clouds {span}"
    return None
