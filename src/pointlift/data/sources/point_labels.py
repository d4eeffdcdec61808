"""Labels of the points of the user's own scans: a column of the file, or a file beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError
from pointlift.data.files.points import PointFile

__all__ = ["BESIDE", "LABEL_COLUMNS", "RawLabels", "beside", "is_beside", "raw_labels"]

LABEL_COLUMNS = (
    "label", "labels", "class", "classes", "classification", "semantic", "semantics", "semantic_label",
    "semantic_labels", "semantic_gt", "segment", "segments", "segmentation", "sem", "category", "class_id",
    "label_id", "gt", "ground_truth", "scalar_label", "scalar_labels", "scalar_class",
    "scalar_classification",
)  # fmt: skip
"""What a column of labels is called in files, the first that is there counts."""
INSTANCE_COLUMNS = ("instance", "instances", "instance_label", "instance_id", "object_id", "scalar_instance")
BESIDE = ("{}.label", "{}.labels", "{}_labels.npy", "{}_label.npy", "{}_segment.npy", "{}.seg", "segment.npy")
"""Files of labels beside the file ``{}.ply``; the last serves a folder with one scan."""
_NOT_SCANS = re.compile(r"(.*_)?(labels?|segment|instance)\.npy|classes\.(txt|json|ya?ml)", re.IGNORECASE)


class RawLabels(NamedTuple):
    """number: ``(N,)`` int64 as files have them. instance: ``(N,)`` int64 or None. source: where from."""

    number: npt.NDArray[np.int64]
    instance: npt.NDArray[np.int64] | None
    source: str


def is_beside(file: Path) -> bool:
    """Whether a file holds labels or names rather than a scan."""
    return _NOT_SCANS.fullmatch(file.name) is not None


def beside(file: Path) -> Path | None:
    """The file of labels beside a scan.

    Raises:
        DataError: more than one.
    """
    found = [place for name in BESIDE[:-1] if (place := file.parent / name.format(file.stem)).is_file()]
    alone = file.parent / BESIDE[-1]
    if not found and alone.is_file():
        found = [alone]
    if len(found) > 1:
        raise DataError(f"{file}: has labels in {' and in '.join(f.name for f in found)}, keep one of them")
    return found[0] if found else None


def raw_labels(cloud: PointFile, column: str = "") -> RawLabels | None:
    """Labels of a scan as its files have them; None where it has none.

    Args:
        cloud: as :func:`~pointlift.data.files.scans.read_scan` gives it.
        column: the one that holds labels; empty: a file beside (:data:`BESIDE`), else the first of
            :data:`LABEL_COLUMNS`; ``"none"``: no labels. In .las files where every point has the
            classification 0 or 1 (never classified, unclassified) there are none.

    Raises:
        DataError: no such column; labels that are no whole numbers; another number of labels than of points.
    """
    path = Path(cloud.path.rpartition("#")[0] or cloud.path)
    if column == "none":
        return None
    file = None if column else beside(path)
    if file is not None:
        number, instance = _read(file)
        if len(number) != len(cloud):
            raise DataError(
                f"{file}: has {len(number)} labels but {path.name} has {len(cloud)} points; they are of "
                "different scans, or one file is truncated"
            )
        return RawLabels(number, instance, file.name)
    name = column or next((n for n in LABEL_COLUMNS if n in cloud.columns), "")
    if not name:
        return None
    if name not in cloud.columns:
        raise DataError(
            f"{cloud.path}: has no column {name!r} of labels, its further columns are "
            f"{', '.join(cloud.columns) or 'none'}"
        )
    values = _whole(f"{cloud.path}: column {name}", cloud.columns[name])
    if path.suffix.lower() in (".las", ".laz") and not column and bool((values <= 1).all()):
        return None
    return RawLabels(values, _instances(cloud.columns), f"column {name}")


def _instances(columns: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.int64] | None:
    name = next((n for n in INSTANCE_COLUMNS if n in columns), None)
    return None if name is None else _whole(f"column {name}", columns[name])


def _read(file: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64] | None]:
    """Numbers, and instances where the file has them (.label: class in the lower 16 bits, instance above)."""
    if file.suffix == ".npy":
        try:
            array = np.load(file, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise DataError(f"{file}: not a readable array ({str(error).splitlines()[0]})") from None
        if array.dtype.kind not in "fiub" or array.size != max(array.shape, default=0):
            raise DataError(f"{file}: has shape {array.shape}, a number per point is expected")
        return _whole(str(file), array.reshape(-1)), None
    data = file.read_bytes()
    if re.fullmatch(rb"[\s\d+.-]*", data) and data.strip():
        try:
            return _whole(str(file), np.array(data.split(), dtype=np.float64)), None
        except ValueError:
            raise DataError(f"{file}: a whole number per line is expected") from None
    if file.suffix != ".label" or not data or len(data) % 4:
        raise DataError(
            f"{file}: its {len(data)} bytes are neither a whole number per line nor, in a .label, a uint32 "
            "a point"
        )
    values = np.frombuffer(data, "<u4")
    instance = (values >> 16).astype(np.int64)
    number = (values & 0xFFFF).astype(np.int64)
    return number, np.where(instance == 0, -1, instance) if instance.any() else None


def _whole(where: str, values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    if values.dtype.kind == "f":
        bad = np.flatnonzero(~(np.isfinite(values) & (values == np.floor(values))))
        if len(bad):
            raise DataError(f"{where}: label {values[bad[0]]:g} of point {bad[0]} is no whole number")
    return values.astype(np.int64)
