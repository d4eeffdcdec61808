"""Labels and instances of a ScanNet scan from its segments, their aggregation and the table of labels."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.files.formats.raw import parse_json

__all__ = ["ScanAnnotation", "axis_alignment", "read_annotation"]

TABLE = "scannetv2-labels.combined.tsv"
SEGMENTS = "_vh_clean_2.0.010000.segs.json"
AGGREGATION = (".aggregation.json", "_vh_clean.aggregation.json")


@dataclass(frozen=True, eq=False)
class ScanAnnotation:
    """nyu40: ``(V,)`` int64 NYU40 number of every vertex, 0 for none. instance: ``(V,)`` int64 object, -1 for
    none."""

    nyu40: npt.NDArray[np.int64]
    instance: npt.NDArray[np.int64]


def read_annotation(scan: Path, vertices: int) -> ScanAnnotation | None:
    """The annotation of a scan; None where it is not there.

    Raises:
        MissingDataError: the table of labels is not in one of the four folders above.
        DataError: damaged files, another number of vertices, a label that the table does not have.
    """
    segments = scan / f"{scan.name}{SEGMENTS}"
    groups = next((f for s in AGGREGATION if (f := scan / f"{scan.name}{s}").is_file()), None)
    if groups is None or not segments.is_file():
        return None
    segment = _segments(segments, vertices)
    table = _nyu40(scan)
    nyu40 = np.zeros(vertices, dtype=np.int64)
    instance = np.full(vertices, -1, dtype=np.int64)
    for number, (label, members) in enumerate(_groups(groups)):
        if label not in table:
            raise DataError(f"{groups}: object {number} has the label {label!r}, which {TABLE} does not have")
        mine = np.isin(segment, members)
        nyu40[mine] = table[label]
        instance[mine] = number
    return ScanAnnotation(nyu40, instance)


def axis_alignment(scan: Path) -> npt.NDArray[np.float64]:
    """``(4, 4)`` of the line ``axisAlignment = ...`` of a scan's text file.

    Raises:
        MissingDataError: no such file.
        DataError: no such line, or one that is not 16 numbers.
    """
    file = scan / f"{scan.name}.txt"
    if not file.is_file():
        raise MissingDataError(f"{file}: no such file, it has the axisAlignment of the scan")
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        name, _, values = line.partition("=")
        if name.strip() != "axisAlignment":
            continue
        try:
            matrix = np.array([float(word) for word in values.split()]).reshape(4, 4)
        except ValueError:
            matrix = np.full((4, 4), np.nan)
        if not np.isfinite(matrix).all():
            raise DataError(f"{file}: line {number} is {line[:60]!r}, axisAlignment = 16 numbers is expected")
        return matrix
    raise DataError(f"{file}: has no line 'axisAlignment = ' with 16 numbers; leave axis_align out")


def _segments(file: Path, vertices: int) -> npt.NDArray[np.int64]:
    content = parse_json(file, "is damaged, the segments of a scan are expected ({})")
    try:
        segment = np.array(content["segIndices"], dtype=np.int64)
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{file}: has no list 'segIndices' of whole numbers") from None
    if segment.shape != (vertices,):
        raise DataError(
            f"{file}: has segments of {segment.size} vertices but the mesh has {vertices}; they are of "
            "different scans, or one file is truncated"
        )
    return segment


def _groups(file: Path) -> list[tuple[str, list[int]]]:
    content: Any = parse_json(file, "is damaged, the aggregation of a scan is expected ({})")
    try:
        return [(str(g["label"]), [int(s) for s in g["segments"]]) for g in content["segGroups"]]
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{file}: has no list 'segGroups' of objects with a label and segments") from None


def _nyu40(scan: Path) -> dict[str, int]:
    places = [parent / TABLE for parent in list(scan.parents)[:4]]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise MissingDataError(f"{places[1]}: no such file, it says which labels are which of the 40 classes")
    return _table(file, file.stat().st_mtime_ns)


@lru_cache
def _table(file: Path, changed: int) -> dict[str, int]:
    with file.open(encoding="utf-8-sig", newline="") as text:
        rows = list(csv.DictReader(text, delimiter="\t"))
    try:
        return {row["raw_category"]: int(row["nyu40id"]) for row in rows}
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{file}: columns raw_category and nyu40id, divided by tabs, are expected") from None
