"""Which part labels belong to which category of objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["PartLabels"]


@dataclass(frozen=True)
class PartLabels:
    """Categories of objects, and the part labels that each of them can have.

    Attributes:
        categories: names, in the order of ``Sample.label``.
        parts: for every category the labels of its parts, which ``Sample.part`` holds.
        names: of the P parts, in the order of their labels;
            a part of the table need not occur in any category.

    Raises:
        ValueError: no categories, a category without parts or with one twice, or a label outside 0 .. P - 1.
    """

    categories: tuple[str, ...]
    parts: tuple[tuple[int, ...], ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.categories or len(self.categories) != len(self.parts):
            raise ValueError(
                f"part labels: got {len(self.categories)} categories and {len(self.parts)} lists of parts, "
                "one of each is expected"
            )
        for category, parts in zip(self.categories, self.parts):
            if not parts or len(set(parts)) != len(parts) or min(parts) < 0 or max(parts) >= len(self.names):
                raise ValueError(
                    f"part labels: category {category} has the parts {list(parts)}, different ones of 0 to "
                    f"{len(self.names) - 1} are expected"
                )

    def __len__(self) -> int:
        return len(self.names)

    def allowed(self) -> npt.NDArray[np.bool_]:
        """``(categories, P)``: whether an object of a category can have a part."""
        table = np.zeros((len(self.categories), len(self.names)), dtype=np.bool_)
        for row, parts in zip(table, self.parts):
            row[list(parts)] = True
        return table

    @staticmethod
    def numbered(categories: Sequence[str], parts: Sequence[Sequence[int]]) -> PartLabels:
        """Parts are named after their category and their number in it: "Cap/0", "Cap/1"."""
        owner = {part: f"{name}/{k}" for name, ids in zip(categories, parts) for k, part in enumerate(ids)}
        names = tuple(owner.get(part, f"part {part}") for part in range(max(owner, default=-1) + 1))
        return PartLabels(tuple(categories), tuple(tuple(int(p) for p in ids) for ids in parts), names)
