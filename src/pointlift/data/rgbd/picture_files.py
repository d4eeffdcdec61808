"""Pictures and depth maps of files, and small text files of matrices."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.files.formats.raw import told_as_damaged

__all__ = [
    "PICTURES", "color_of_bytes", "image_size", "numbered", "numbers_of", "read_color", "read_depth",
    "read_intrinsics", "read_motion",
]  # fmt: skip

Floats = npt.NDArray[np.float64]
PICTURES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp")
DEPTHS = (".png", ".pgm", ".tif", ".tiff", ".npy")


def read_color(file: Path) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8. Raises DataError for a missing or damaged file."""
    _there(file, "a picture")
    with told_as_damaged(file), Image.open(file) as opened:
        return np.asarray(opened.convert("RGB"))


def color_of_bytes(data: bytes, where: str) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 of an encoded picture within another file. Raises DataError, which begins `where`."""
    with told_as_damaged(Path(where)), Image.open(io.BytesIO(data)) as opened:
        return np.asarray(opened.convert("RGB"))


def read_depth(file: Path) -> npt.NDArray[Any]:
    """(H, W) as stored: 16 bits of .png, .pgm or .tif, or the numbers of .npy or floating .tif.

    Raises:
        DataError: a missing or damaged file, channels, or 8 bits, which are a drawing of depths and not
            depths.
    """
    _there(file, "a depth map")
    with told_as_damaged(file):
        if file.suffix.lower() == ".npy":
            stored = np.load(file, allow_pickle=False)
        else:
            with Image.open(file) as opened:
                stored = np.asarray(opened)
    if stored.ndim != 2 or stored.dtype.kind not in "iuf" or stored.dtype.itemsize < 2:
        raise DataError(
            f"{file}: has {stored.dtype} values of shape {stored.shape}, (H, W) of 16 bits or floats are "
            "expected of a depth map"
        )
    return stored


def image_size(file: Path) -> tuple[int, int]:
    """(height, width) of a picture or depth map, from its header alone."""
    _there(file, "a picture")
    if file.suffix.lower() == ".npy":
        with told_as_damaged(file):
            shape = np.load(file, mmap_mode="r", allow_pickle=False).shape
        return shape[0], shape[1] if len(shape) > 1 else 1
    with told_as_damaged(file), Image.open(file) as opened:
        return opened.height, opened.width


def _there(file: Path, what: str) -> None:
    if not file.is_file():
        raise MissingDataError(f"{file}: no such file, {what} is expected")


def numbers_of(file: Path) -> Floats:
    """All numbers of a text file, NaN and infinite ones too, as Windows writes them (-1.#IND) as well.

    Raises:
        DataError: no such file, or a word that is no number.
    """
    _there(file, "a text of numbers")
    words = file.read_text(encoding="utf-8-sig", errors="replace").replace(",", " ").split()
    try:
        return np.array([np.nan if "#" in word else float(word) for word in words])
    except ValueError:
        raise DataError(f"{file}: holds something that is not a number, a matrix is expected") from None


def read_motion(file: Path) -> Floats:
    """(4, 4) of 12 or 16 numbers, row by row. It may be NaN or infinite, which is how lost tracking is
    written. Raises DataError for other texts.
    """
    values = numbers_of(file)
    if values.size not in (12, 16):
        raise DataError(f"{file}: has {values.size} numbers, a 4 x 4 matrix is expected")
    return np.vstack([values[:12].reshape(3, 4), [0.0, 0.0, 0.0, 1.0]])


def read_intrinsics(file: Path) -> Floats:
    """(3, 3) of a 3 x 3 or 4 x 4 matrix or of fx fy cx cy. Raises DataError for other texts."""
    values = numbers_of(file)
    if values.size not in (4, 9, 16):
        raise DataError(
            f"{file}: has {values.size} numbers; 4 (fx fy cx cy), or a matrix of 3 x 3 or 4 x 4 are expected"
        )
    if values.size == 4:
        fx, fy, cx, cy = values
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    side = 3 if values.size == 9 else 4
    return values.reshape(side, side)[:3, :3]


def numbered(folder: Path, suffixes: tuple[str, ...]) -> tuple[dict[int, Path], int]:
    """Files of a folder by the last number in their names, and how many other files there are.

    Raises:
        DataError: two files with one number.
    """
    found: dict[int, Path] = {}
    others = 0
    for file in sorted(folder.iterdir()):
        digits = "".join(c if c.isdigit() else " " for c in file.stem).split()
        if not file.is_file() or file.suffix.lower() not in suffixes or not digits:
            others += not file.name.startswith(".")
            continue
        number = int(digits[-1])
        if number in found:
            raise DataError(
                f"{folder}: {found[number].name} and {file.name} have one number, by which colour, depth and "
                "poses find each other"
            )
        found[number] = file
    return found, others
