"""Clouds that are larger than memory: read block by block, as often as is asked for.

The first reading (`BlockedCloud.facts`) finds what holds for all points: how many there are, their bounds, a
random sample of bounded size, whether all are finite, what colours are divided by. Every further one gives
blocks of points that are as the whole file read at once would have them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.files.block_las import open_las
from pointlift.data.files.block_rows import BlockSource, RawBlock, open_bin, open_npy, open_pcd, open_ply
from pointlift.data.files.block_text import open_text
from pointlift.data.files.formats.raw import tell, told_as_damaged
from pointlift.data.files.scans import scaled_intensity

__all__ = ["BLOCK", "BlockFacts", "BlockedCloud", "PointBlock", "read_whole_because"]

BLOCK = 2**17  # points at a time
SAMPLE = 2**19  # points of the random sample
UNNAMED = {"triple": "columns 4 to 6", "bytes": "columns 5 to 7"}
COLUMNS = ("colors", "normals", "intensity")
OPEN: dict[str, Callable[[Path], BlockSource | str]] = {
    ".las": open_las,
    ".laz": open_las,
    ".ply": open_ply,
    ".npy": open_npy,
    ".bin": open_bin,
    ".pcd": open_pcd,
    **dict.fromkeys((".xyz", ".txt", ".csv", ".pts"), open_text),
}
Floats = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Told = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class PointBlock:
    """Points of a file, one after another.

    Attributes:
        first: number of the first of them among the points of the file that are kept.
        xyz: ``(n, 3)`` float64, in the file's own coordinates.
        colors: ``(n, 3)`` float32 in 0-1, or None. normals: ``(n, 3)`` float32, or None.
        intensity: ``(n, 1)`` float32, in 0-1 where it is stored in 8 or 16 bits, else as the file has it; or
            None.
    """

    first: int
    xyz: Floats
    colors: Float32 | None = None
    normals: Float32 | None = None
    intensity: Float32 | None = None

    def __len__(self) -> int:
        return len(self.xyz)


@dataclass(frozen=True, eq=False)
class BlockFacts:
    """What holds for all points of a file.

    Attributes:
        points: that are kept. dropped: that are not, since something of them is NaN or infinite.
        low, high: ``(3,)`` float64 bounds. mean: ``(3,)`` float64.
        sample: ``(min(points, SAMPLE), 3)`` float64 random points, each as likely as any other; all of them
            where they are no more.
        columns: which of "colors", "normals", "intensity" there are, among those asked for.
        divisor: of colours. triple: what three columns without names are, "colors", "normals" or "".
    """

    points: int
    dropped: int
    low: Floats
    high: Floats
    mean: Floats
    sample: Floats
    columns: tuple[str, ...]
    divisor: float
    triple: str

    @property
    def sampled(self) -> bool:
        """Whether the sample has not all points."""
        return len(self.sample) < self.points


def read_whole_because(path: str | Path) -> str:
    """Why a file cannot be read in blocks, as the end of a sentence; "" where it can.

    Raises:
        MissingDataError: there is no such file. DataError: a damaged header.
    """
    found = _source(Path(path))
    return found if isinstance(found, str) else ""


def _source(path: Path) -> BlockSource | str:
    if not path.exists():
        raise MissingDataError(f"{path}: no such file")
    suffix = path.suffix.lower()
    if suffix not in OPEN:
        return f"{suffix or 'such'} files are not read in blocks ({' '.join(OPEN)} are)"
    if not path.stat().st_size:
        raise DataError(f"{path}: the file is empty (0 bytes)")
    with told_as_damaged(path):
        return OPEN[suffix](path)


class BlockedCloud:
    """A file of points that is read in blocks.

    Args:
        path: the file.
        use: which of "colors", "normals", "intensity" are wanted; what is wrong with others does not matter.
        nonfinite: "error", or "drop" to leave out points with NaN or infinite values, here and in every
            reading.
        block: points at a time.
        sample: how many points of the random sample.

    Attributes:
        estimate: how many points there are, before any was read.

    Raises:
        DataError: a file that cannot be read in blocks (see :func:`read_whole_because`), a damaged header.
    """

    def __init__(
        self,
        path: str | Path,
        use: Sequence[str] = COLUMNS,
        nonfinite: str = "error",
        block: int = BLOCK,
        sample: int = SAMPLE,
    ) -> None:
        self.path, self.use, self.nonfinite = str(path), tuple(use), nonfinite
        self.block, self.most = block, sample
        found = _source(Path(path))
        if isinstance(found, str):
            raise DataError(f"{path}: cannot be read in blocks: {found}")
        self.source = found
        self.estimate = found.estimate
        self.told: Told = lambda done, total: None

    @cached_property
    def facts(self) -> BlockFacts:
        """Reads the file once (twice where a column has no value at all).

        Raises:
            DataError: a damaged file, no points, NaN or infinite values.
        """
        passed_over: frozenset[str] = frozenset()
        while True:
            wanted = self._wanted - passed_over
            scan = _Scan(self.path, wanted, self.nonfinite, self.most, self.source.measured)
            for block in self._raw():
                scan.add(block)
                self.told(scan.rows, max(self.estimate, scan.rows))
            if not (useless := scan.useless(self.use)):
                return scan.result(self.use)
            passed_over |= useless

    @property
    def _wanted(self) -> frozenset[str]:
        """Names of `RawBlock` that may be what is asked for."""
        names = {*self.use}
        names |= {"triple"} if {"colors", "normals"} & names else set()
        return frozenset(names | ({"bytes"} if "colors" in names else set()))

    def blocks(self) -> Iterator[PointBlock]:
        """All points that are kept, in the order of the file.

        Raises:
            DataError: as `facts`; a file that changed since.
        """
        facts, first = self.facts, 0
        for raw in self._raw():
            raw = _meant(raw, facts.triple, facts.columns)
            raw = _rows(raw, ~_unmeasured(raw)) if self.source.measured else raw
            raw = _rows(raw, _finite(raw)) if self.nonfinite == "drop" else raw
            if not len(raw.xyz):
                continue
            yield PointBlock(first, raw.xyz, **_scaled(raw, facts.divisor))
            first += len(raw.xyz)
        if first != facts.points:
            raise DataError(f"{self.path}: had {facts.points} points and now {first}: it changed while read")

    def _raw(self) -> Iterator[RawBlock]:
        with told_as_damaged(Path(self.path)):
            yield from self.source.blocks(self.block)


@dataclass
class _Reach:
    """Of the values of a column: how many rows are finite, what they reach, how many are unit vectors."""

    finite: int = 0
    unit: int = 0
    low: float = np.inf
    high: float = -np.inf
    whole: bool = True

    def add(self, values: npt.NDArray[Any]) -> None:
        known = values[np.isfinite(values).all(axis=1)] if values.dtype.kind == "f" else values
        self.whole &= values.dtype.kind != "f"
        if not len(known):
            return
        self.finite += len(known)
        self.low, self.high = min(self.low, float(known.min())), max(self.high, float(known.max()))
        lengths = np.linalg.norm(known.astype(np.float64), axis=1)
        self.unit += int((np.abs(lengths - 1) < 0.02).sum())

    @property
    def divisor(self) -> float:
        """What colours are divided by, see :func:`~pointlift.data.files.formats.content.scale_colors`."""
        if not self.whole and self.high <= 1:
            return 1.0
        return 65535.0 if self.high > 255 else 255.0

    @property
    def meaning(self) -> str:
        """What three columns without names are, see
        :func:`~pointlift.data.files.formats.content.from_columns`.
        """
        if self.finite and self.unit > 0.95 * self.finite:
            return "normals"
        return "colors" if self.finite and self.low >= 0 and self.high <= 255 else ""


@dataclass
class _Scan:
    """The first reading. wanted: names of `RawBlock`. measured: of `BlockSource`."""

    path: str
    wanted: frozenset[str]
    nonfinite: str
    most: int
    measured: bool
    rows: int = 0
    points: int = 0
    pixels: int = 0
    first_bad: int = -1
    reach: dict[str, _Reach] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.low, self.high = np.full(3, np.inf), np.full(3, -np.inf)
        self.total, self.zero = np.zeros(3), np.zeros(3)
        self.some = _Reservoir(self.most)

    def add(self, raw: RawBlock) -> None:
        raw = RawBlock(raw.xyz, {n: v for n, v in raw.columns.items() if n in self.wanted})
        for name, values in raw.columns.items():
            self.reach.setdefault(name, _Reach()).add(values)
        pixels = _unmeasured(raw) if self.measured else np.zeros(len(raw.xyz), dtype=bool)
        good = _finite(raw)
        bad = ~good & ~pixels
        if bad.any() and self.first_bad < 0:
            self.first_bad = self.rows + int(np.flatnonzero(bad)[0])
        self.rows += len(raw.xyz)
        self.pixels += int(pixels.sum())
        xyz = raw.xyz[good]
        if not len(xyz):
            return
        if not self.points:
            self.zero = xyz[0]
        self.points += len(xyz)
        self.low, self.high = np.minimum(self.low, xyz.min(axis=0)), np.maximum(self.high, xyz.max(axis=0))
        self.total += (xyz - self.zero).sum(axis=0)
        self.some.add(xyz)

    def useless(self, use: Sequence[str]) -> frozenset[str]:
        """Columns that spoil points though they are not wanted: without a value, or of another meaning."""
        if self.points == self.rows - self.pixels:
            return frozenset()
        empty = {name for name, reach in self.reach.items() if not reach.finite}
        if empty:
            names = " and ".join(sorted(UNNAMED.get(name, name) for name in empty))
            tell(Path(self.path), f"its {names} are NaN or infinite in every row and are left out")
        triple = self.reach.get("triple")
        other = {"triple"} if triple is not None and triple.meaning not in use else set()
        return frozenset(empty | other)

    def result(self, use: Sequence[str]) -> BlockFacts:
        if not self.rows:
            raise DataError(f"{self.path}: has 0 points, at least 1 is expected")
        if self.pixels:
            tell(
                Path(self.path),
                f"{self.pixels} of {self.rows} pixels of this organised cloud have no measurement (NaN), "
                "they are left out",
            )
        dropped = self.rows - self.points - self.pixels
        if dropped and (self.nonfinite == "error" or not self.points):
            fix = "repair the file, or leave them out with nonfinite='drop' (--nonfinite drop)"
            raise DataError(
                f"{self.path}: {dropped} of {self.rows} points have NaN or infinite values, the first at row "
                f"{self.first_bad} (counted from 0); {fix if self.points else 'no point is left'}"
            )
        if dropped:
            sentence = f"{dropped} of {self.rows} points have NaN or infinite values and are left out"
            tell(Path(self.path), sentence)
        if not self.points:
            raise DataError(f"{self.path}: every row has something that is NaN or infinite, no point is left")
        largest = float(max(np.abs(self.low).max(), np.abs(self.high).max()))
        if largest > np.finfo(np.float32).max:
            raise DataError(f"{self.path}: coordinates as large as {largest:.3g} do not fit float32")
        unnamed = self.reach["triple"].meaning if "triple" in self.reach else ""
        if "bytes" in self.reach and self.reach["bytes"].low >= 0 and self.reach["bytes"].high <= 255:
            unnamed = "colors"
        shades = next((self.reach[n] for n in ("colors", "triple", "bytes") if n in self.reach), None)
        return BlockFacts(
            self.points,
            dropped,
            self.low,
            self.high,
            self.zero + self.total / self.points,
            self.some.points(),
            tuple(name for name in COLUMNS if name in {*self.reach, unnamed} and name in use),
            1.0 if shades is None else shades.divisor,
            unnamed,
        )


class _Reservoir:
    """A random sample of rows, each as likely as any other, of at most `most`: those with the smallest of
    random keys. Memory: at most three times the sample.
    """

    def __init__(self, most: int) -> None:
        self.most, self.rng, self.limit = most, np.random.default_rng(0), 1.0
        self.keys: list[Floats] = []
        self.rows: list[Floats] = []
        self.count = 0

    def add(self, rows: Floats) -> None:
        keys = self.rng.random(len(rows))
        taken = keys < self.limit
        self.keys.append(keys[taken])
        self.rows.append(rows[taken])
        self.count += int(taken.sum())
        if self.count > 2 * self.most:
            self._shrink()

    def points(self) -> Floats:
        self._shrink()
        return self.rows[0]

    def _shrink(self) -> None:
        keys, rows = np.concatenate(self.keys), np.concatenate(self.rows)
        if len(keys) > self.most:
            order = np.sort(np.argpartition(keys, self.most)[: self.most])
            keys, rows = keys[order], rows[order]
            self.limit = float(keys.max())
        self.keys, self.rows, self.count = [keys], [rows], len(keys)


def _finite(raw: RawBlock) -> npt.NDArray[np.bool_]:
    good = np.asarray(np.isfinite(raw.xyz).all(axis=1))
    for values in raw.columns.values():
        if values.dtype.kind == "f":
            good &= np.isfinite(values).all(axis=1)
    return good


def _unmeasured(raw: RawBlock) -> npt.NDArray[np.bool_]:
    return np.asarray(np.isnan(raw.xyz).all(axis=1))


def _rows(raw: RawBlock, kept: npt.NDArray[np.bool_]) -> RawBlock:
    if kept.all():
        return raw
    return RawBlock(raw.xyz[kept], {name: values[kept] for name, values in raw.columns.items()})


def _meant(raw: RawBlock, triple: str, columns: tuple[str, ...]) -> RawBlock:
    """With the columns that are wanted, each under what it is."""
    known = {triple if n in ("triple", "bytes") else n: values for n, values in raw.columns.items()}
    return RawBlock(raw.xyz, {name: known[name] for name in columns})


def _scaled(raw: RawBlock, divisor: float) -> Mapping[str, Float32]:
    found: dict[str, Float32] = {}
    for name, values in raw.columns.items():
        if name == "colors":
            found[name] = (values.astype(np.float64) / divisor).astype(np.float32)
        elif name == "intensity":
            found[name] = scaled_intensity(values)
        else:
            found[name] = values.astype(np.float32)
    return found
