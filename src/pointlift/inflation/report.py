"""What became of every tensor of the image network."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["InflationError", "InflationReport", "TensorFate"]


class InflationError(ValueError):
    """An image network, or a part of it, that cannot be turned into a point-cloud network."""


@dataclass(frozen=True)
class TensorFate:
    """One tensor. fate: copied, inflated, re-initialised or dropped; note says by which rule or why."""

    name: str
    fate: str
    shape_2d: tuple[int, ...] | None
    shape_3d: tuple[int, ...] | None
    target: str = ""
    note: str = ""


@dataclass
class InflationReport:
    """The fate of every tensor, and what was done to modules without tensors."""

    rows: list[TensorFate] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Number of tensors per fate."""
        return dict(Counter(r.fate for r in self.rows))

    def values(self) -> dict[str, int]:
        """Number of values (of the 3D shape, or the 2D one where dropped) per fate."""
        total: Counter[str] = Counter()
        for r in self.rows:
            size = 1
            for n in r.shape_3d if r.shape_3d is not None else r.shape_2d or ():
                size *= n
            total[r.fate] += size
        return dict(total)

    def to_dict(self) -> dict[str, Any]:
        return {"rows": [asdict(r) for r in self.rows], "notes": list(self.notes), "counts": self.counts()}

    def render(self, every: bool = False) -> str:
        """A table of all tensors (`every`) or of one line per fate and note, and the remarks."""
        lines = []
        if every:
            width = max((len(r.name) for r in self.rows), default=4)
            for r in self.rows:
                shape = f"{_shape(r.shape_2d)} -> {_shape(r.shape_3d)}"
                lines.append(f"{r.name:<{width}}  {r.fate:<15} {shape:<36} {r.note}".rstrip())
        else:
            groups: dict[tuple[str, str], list[TensorFate]] = {}
            for r in self.rows:
                groups.setdefault((r.fate, r.note), []).append(r)
            for (fate, note), members in groups.items():
                names = ", ".join(r.name for r in members[:2]) + (", ..." if len(members) > 2 else "")
                lines.append(f"{fate:<15} {len(members):>5} tensors  {note + ': ' if note else ''}{names}")
        return "\n".join(lines + [f"note: {n}" for n in self.notes])

    def __str__(self) -> str:
        return self.render()


def _shape(shape: tuple[int, ...] | None) -> str:
    return "-" if shape is None else "x".join(map(str, shape)) if shape else "scalar"
