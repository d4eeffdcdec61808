"""The metadata of SUN RGB-D's toolbox, read without MATLAB: where frames are, and the boxes of their objects.

``SUNRGBDMeta.mat`` (v1) and ``SUNRGBDMeta3DBB_v2.mat`` (v2) hold one struct per frame, and in it one per box:
``centroid`` in upright axes, ``basis`` (a row per axis), ``coeffs`` (**half** sizes along these rows) and
``orientation``, the direction that the object faces. VoteNet's text has these as they are and takes
``-atan2(y, x)`` of the orientation for a heading, from x towards -y. Here a box has **full** sizes, the first
along its heading, and headings turn **from x towards y**, counter-clockwise seen from above.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.io import loadmat

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.files.formats.raw import tell, told_as_damaged
from pointlift.data.sources.sunrgbd_frames import intrinsics_of, tilt_of

__all__ = ["META", "SPLIT", "SunEntry", "Version", "find_file", "read_meta", "read_split"]

Floats = npt.NDArray[np.float64]
Version = Literal["v1", "v2"]
META: dict[Version, str] = {"v1": "SUNRGBDMeta.mat", "v2": "SUNRGBDMeta3DBB_v2.mat"}
SPLIT = "allsplit.mat"
PLACES = ("", "Metadata", "SUNRGBDtoolbox/Metadata", "traintestSUNRGBD", "SUNRGBDtoolbox/traintestSUNRGBD")
NEEDED = ("depthpath", "rgbpath", "K", "Rtilt", "groundtruth3DBB")
BOX = ("centroid", "basis", "coeffs", "orientation", "classname")
ASKEW = 0.9  # cosine to the nearest axis of a box below which an orientation is doubtful


@dataclass(frozen=True, eq=False)
class SunEntry:
    """One frame of the metadata.

    Attributes:
        number: in the metadata, from 1; VoteNet names its files so.
        folder: of the frame from ``SUNRGBD/`` on, ``"SUNRGBD/kv1/NYUdata/NYU0001"``.
        intrinsics: ``(3, 3)`` float64, counted from pixel 0.
        tilt: ``(3, 3)`` float64 ``Rtilt``.
        boxes: ``(K, 7)`` float64 centre x, y, z, full size along the heading, across it and upwards, heading.
        names: of the K objects.
    """

    number: int
    folder: str
    intrinsics: Floats
    tilt: Floats
    boxes: Floats
    names: tuple[str, ...]


def find_file(root: Path, name: str) -> Path | None:
    """A file of the toolbox in a folder of the release, or in the places that its archives unpack to."""
    return next((root / place / name for place in PLACES if (root / place / name).is_file()), None)


def read_meta(file: Path, bad: Literal["error", "drop"] = "error") -> tuple[SunEntry, ...]:
    """The frames of a file of metadata; kept for as long as it does not change.

    Half sizes below zero are taken without their sign, as VoteNet does, which is told.

    Args:
        bad: what becomes of boxes with numbers that are NaN or infinite, or sizes of 0: ``"error"``, or
            ``"drop"`` to leave them out, which is told.

    Raises:
        DataError: a damaged file, one without the fields that are needed, wrong boxes.
    """
    return _read_meta(file, bad, file.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _read_meta(file: Path, bad: str, changed: int) -> tuple[SunEntry, ...]:
    entries = _structs(_variable(file, "SUNRGBDMeta"))
    if not entries:
        raise DataError(f"{file}: SUNRGBDMeta has no frames")
    said = {"negative": 0, "dropped": 0, "askew": 0}
    found = tuple(_entry(file, number, entry, bad, said) for number, entry in enumerate(entries, 1))
    if said["negative"]:
        tell(file, f"{said['negative']} boxes have half sizes below 0, their sign is left out")
    if said["dropped"]:
        tell(file, f"{said['dropped']} boxes have a size of 0 or values that are NaN, they are left out")
    if said["askew"]:
        tell(file, f"{said['askew']} boxes do not face along a side of theirs, the nearest one is taken")
    return found


def read_split(root: Path, split: str) -> set[str]:
    """Folders of the frames of ``"train"`` or ``"test"``, by the toolbox's list.

    Raises:
        MissingDataError: no list. DataError: a list without this split.
    """
    file = find_file(root, SPLIT)
    if file is None:
        raise MissingDataError(
            f"{root}: has no {SPLIT}, the official lists of training and test; it is in SUNRGBDtoolbox"
            "/traintestSUNRGBD of the toolbox, or read the split all"
        )
    names = np.atleast_1d(_variable(file, f"all{split}")).reshape(-1).tolist()
    return {_from_release(file, name) for name in names}


def _variable(file: Path, name: str) -> Any:
    with told_as_damaged(file):
        try:
            content = loadmat(str(file), squeeze_me=True, struct_as_record=False)
        except NotImplementedError:
            raise DataError(f"{file}: is of MATLAB 7.3, which is not read; save it with -v7") from None
    if name not in content:
        has = ", ".join(n for n in content if not n.startswith("__")) or "nothing"
        raise DataError(f"{file}: has no variable {name}, it has {has}")
    return content[name]


def _structs(value: Any) -> list[Any]:
    """Structs of an array of them, of a single one, or of an empty array, which MATLAB writes as []."""
    return list(np.atleast_1d(value).reshape(-1))


def _entry(file: Path, number: int, entry: Any, bad: str, said: dict[str, int]) -> SunEntry:
    where = f"{file}: frame {number}"
    lacking = [name for name in NEEDED if not hasattr(entry, name)]
    if lacking:
        raise DataError(f"{where} has no field {', '.join(lacking)}")
    boxes, names = [], []
    for place, one in enumerate(_structs(entry.groundtruth3DBB), 1):
        box = _box(f"{where}, box {place}", one, bad, said)
        if box is not None:
            boxes.append(box)
            names.append(str(one.classname))
    folder = _from_release(file, entry.depthpath).rpartition("/")[0].rpartition("/")[0]
    return SunEntry(
        number,
        folder,
        intrinsics_of(entry.K, where),
        tilt_of(entry.Rtilt, where),
        np.array(boxes, dtype=np.float64).reshape(-1, 7),
        tuple(names),
    )


def _from_release(file: Path, path: Any) -> str:
    """A path of the authors' machine from the folder SUNRGBD on."""
    words = str(path).replace("\\", "/").rstrip("/").split("/")
    if "SUNRGBD" not in words:
        raise DataError(f"{file}: the path {str(path)[:80]!r} has no folder SUNRGBD")
    return "/".join(words[words.index("SUNRGBD") :])


def _box(where: str, box: Any, bad: str, said: dict[str, int]) -> list[float] | None:
    """Centre, full sizes and heading; None for a box that is left out."""
    lacking = [name for name in BOX if not hasattr(box, name)]
    if lacking:
        raise DataError(f"{where} has no field {', '.join(lacking)}")
    numbers = [np.array(getattr(box, name), dtype=np.float64).reshape(-1) for name in BOX[:-1]]
    if [len(values) for values in numbers] != [3, 9, 3, 3]:
        raise DataError(f"{where}: centroid 3, basis 3 x 3, coeffs 3 and orientation 3 numbers are expected")
    centre, basis, half, facing = numbers[0], numbers[1].reshape(3, 3), numbers[2], numbers[3][:2]
    length = float(np.hypot(*facing))
    if not all(np.isfinite(values).all() for values in numbers) or not half.all() or not length:
        if bad == "error":
            raise DataError(
                f"{where} ({box.classname}) has a size of 0 or values that are NaN or infinite; leave such "
                "boxes out with bad=drop"
            )
        said["dropped"] += 1
        return None
    said["negative"] += bool((half < 0).any())
    along = basis[:2, :2] @ facing / length
    first = int(np.abs(along).argmax())
    said["askew"] += bool(abs(along[first]) < ASKEW)
    way = basis[first, :2] * np.sign(along[first])
    sizes = 2 * np.abs(half)
    return [*centre, sizes[first], sizes[1 - first], sizes[2], float(np.arctan2(way[1], way[0]))]
