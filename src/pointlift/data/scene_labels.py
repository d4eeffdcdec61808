"""The classes of a scene dataset, and how the numbers in its files become them."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError

__all__ = ["IGNORED", "SceneLabels", "distinct_colors"]

IGNORED = -1
"""The label of points that have no class: neither learned from nor judged."""


@dataclass(frozen=True)
class SceneLabels:
    """The C classes that the points of scenes belong to.

    Attributes:
        names: of the classes, in the order of their labels 0 .. C - 1.
        ids: what files write for a class, ``{number: label}``; several numbers may be one class, and label
            ``IGNORED`` (-1) drops a number on purpose. Empty: files hold the labels themselves.
        written: the number that a submission writes for every class; empty where it is the label.
        colors: ``(C, 3)`` in 0-1 as nested tuples, the dataset's own; empty for ones that tell apart well.
        rule: what was decided about doubtful classes, for the protocol, e.g. "stairs are clutter".

    Raises:
        ValueError: no classes, a name twice, a label outside -1 .. C - 1, or another number of written ids or
            colours than of classes.
    """

    names: tuple[str, ...]
    ids: Mapping[int, int] = field(default_factory=dict)
    written: tuple[int, ...] = ()
    colors: tuple[tuple[float, float, float], ...] = ()
    rule: str = ""

    def __post_init__(self) -> None:
        count = len(self.names)
        if not count or len(set(self.names)) != count:
            raise ValueError(f"scene labels: got the names {list(self.names)}, different ones are expected")
        if any(not IGNORED <= label < count for label in self.ids.values()):
            raise ValueError(f"scene labels: ids must lead to -1 .. {count - 1}, got {dict(self.ids)}")
        for what, values in (("written ids", self.written), ("colours", self.colors)):
            if values and len(values) != count:
                raise ValueError(f"scene labels: got {len(values)} {what} for {count} classes")

    def __len__(self) -> int:
        return len(self.names)

    def map(self, raw: npt.NDArray[np.integer], where: str) -> npt.NDArray[np.int64]:
        """``(N,)`` labels of the ``(N,)`` numbers in a file.

        Raises:
            DataError: numbers that the table does not have; it names the file and how many points have them.
        """
        values, place = np.unique(np.asarray(raw, dtype=np.int64), return_inverse=True)
        table = self.ids or {IGNORED: IGNORED, **{i: i for i in range(len(self.names))}}
        unknown = [int(v) for v in values if int(v) not in table]
        if unknown:
            count = int(np.isin(np.asarray(raw, dtype=np.int64), unknown).sum())
            shown = ", ".join(map(str, unknown[:6])) + (", ..." if len(unknown) > 6 else "")
            raise DataError(
                f"{where}: {count} points have the labels {shown}, which are none of the {len(self)} classes "
                f"({', '.join(self.names[:4])}, ...): give names for all of them, or leave these points out"
            )
        found = np.array([table[int(v)] for v in values], dtype=np.int64)
        return found[place.reshape(-1)] if len(found) else np.zeros(0, np.int64)

    def to_written(self, labels: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """``(N,)`` numbers as a submission writes them. Raises ValueError for labels of no class (-1)."""
        labels = np.asarray(labels, dtype=np.int64)
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(self):
            raise ValueError(f"labels must be 0 .. {len(self) - 1} to be written, some are not")
        table = np.array(self.written or range(len(self)), dtype=np.int64)
        return table[labels]

    def palette(self) -> npt.NDArray[np.float32]:
        """``(C, 3)`` colours in 0-1."""
        return np.asarray(self.colors or distinct_colors(len(self)), dtype=np.float32)


def distinct_colors(count: int) -> list[tuple[float, float, float]]:
    """So many colours, neighbours in the list far from each other."""
    golden = 0.618033988749895
    return [colorsys.hsv_to_rgb((i * golden) % 1, 0.55 + 0.3 * (i % 2), 0.92) for i in range(count)]
