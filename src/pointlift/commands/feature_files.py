"""What embed writes: features of clouds or of points, as .npz or .csv, never more of them in memory than a
block.
"""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt

from pointlift.commands.prediction_files import TimedSaves
from pointlift.system.atomic import atomic_write

__all__ = ["FeatureFile"]

Float32 = npt.NDArray[np.float32]
COPIED = 2**22  # bytes at a time


class _Rows:
    """(n, C) float32 that grow at the end, in an unnamed file on the disk of `folder`."""

    def __init__(self, folder: Path) -> None:
        # closed by `close`; unnamed, so that nothing is left of it however the process ends
        self.file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self.count, self.channels = 0, 0

    def add(self, rows: Float32) -> None:
        self.file.write(np.ascontiguousarray(rows, dtype="<f4").data)
        self.count, self.channels = self.count + len(rows), rows.shape[1]

    def cut(self, count: int) -> None:
        """Take away all but the first rows."""
        self.count = count
        self.file.seek(4 * count * self.channels)
        self.file.truncate()

    def copy_into(self, archive: zipfile.ZipFile, name: str) -> None:
        """As an array of an .npz."""
        header = {"descr": "<f4", "fortran_order": False, "shape": (self.count, self.channels)}
        self.file.seek(0)
        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            shutil.copyfileobj(self.file, member, COPIED)

    def rows(self, start: int, stop: int) -> Float32:
        self.file.seek(4 * start * self.channels)
        data = self.file.read(4 * (stop - start) * self.channels)
        self.file.seek(0, 2)
        return np.frombuffer(data, dtype="<f4").reshape(-1, self.channels)

    def close(self) -> None:
        self.file.close()


class FeatureFile:
    """Features of files, one row per cloud or per point.

    .npz: features (R, C), files (F,), made_by; per point also xyz (R, 3) and offsets (F + 1,): file i has
    rows offsets[i]:offsets[i + 1]. .csv: the columns file, per point x, y, z, then feature_0, ... The rows
    wait on the disk beside `out`, which is written whole at once: at the first chance, then now and then, and
    by `close`; without a row it is not written.

    Args:
        out: the file; another ending than .csv and .npz gets ".npz" appended.
        per: "cloud" or "point".

    made_by: what made them, as JSON also in the .npz: the checksum of the checkpoint, columns, preparation.
    """

    def __init__(self, out: str, per: Literal["cloud", "point"]) -> None:
        self.made_by: dict[str, Any] = {}
        self.per = per
        known = Path(out).suffix.lower() in (".csv", ".npz")
        self.target = Path(out) if known else Path(f"{out}.npz")
        self.files: list[str] = []
        self.offsets = [0]
        self._saves = TimedSaves(self._save)
        self._rows: tuple[_Rows, _Rows] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Of all features."""
        return (0, 0) if self._rows is None else (self._rows[0].count, self._rows[0].channels)

    def add(self, file: str, xyz: Float32, blocks: Iterable[Float32]) -> None:
        """The features of a file in blocks (n, C); all of them or, where one fails, none. xyz: (N, 3), of its
        points.
        """
        if self._rows is None:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            self._rows = _Rows(self.target.parent), _Rows(self.target.parent)
        features, points = self._rows
        try:
            for block in blocks:
                features.add(block)
        except BaseException:
            features.cut(self.offsets[-1])
            raise
        if self.per == "point":
            points.add(xyz)
        self.files.append(file)
        self.offsets.append(features.count)
        self._saves.changed()

    def close(self) -> None:
        """Write what has not been written."""
        try:
            self._saves.finish()
        finally:
            for rows in self._rows or ():
                rows.close()

    def _save(self) -> None:
        with atomic_write(self.target) as temporary:
            if self.target.suffix.lower() == ".csv":
                self._save_csv(temporary)
            else:
                self._save_npz(temporary)

    def _save_npz(self, path: Path) -> None:
        assert self._rows is not None
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            self._rows[0].copy_into(archive, "features")
            made = np.array(json.dumps({**self.made_by, "per": self.per}))
            arrays: dict[str, npt.NDArray[Any]] = {"files": np.array(self.files), "made_by": made}
            if self.per == "point":
                self._rows[1].copy_into(archive, "xyz")
                arrays["offsets"] = np.array(self.offsets)
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, array)

    def _save_csv(self, path: Path) -> None:
        assert self._rows is not None
        features, points = self._rows
        place = ["x", "y", "z"] if self.per == "point" else []
        step = max(1, COPIED // (4 * features.channels))
        with path.open("w", encoding="utf-8", newline="") as stream:
            table = csv.writer(stream)
            table.writerow(["file", *place, *(f"feature_{i}" for i in range(features.channels))])
            for file, first, last in zip(self.files, self.offsets, self.offsets[1:]):
                for start in range(first, last, step):
                    block = features.rows(start, min(start + step, last))
                    if place:
                        block = np.hstack([points.rows(start, min(start + step, last)), block])
                    table.writerows([file, *(f"{value:.9g}" for value in row)] for row in block)
