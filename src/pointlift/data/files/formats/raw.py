"""Bytes, text and numbers of a file before they are a cloud, and what is said of a damaged one."""

from __future__ import annotations

import codecs
import json
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError, DataWarning

__all__ = [
    "DAMAGED",
    "is_number",
    "parse_json",
    "parse_numbers",
    "read_bytes",
    "tell",
    "text_bytes",
    "told_as_damaged",
]

# what parsers raise of damaged files; a SyntaxError comes from Pillow and numpy
DAMAGED = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError, SyntaxError,
    TypeError, ValueError, struct.error, zlib.error,
)  # fmt: skip


@contextmanager
def told_as_damaged(file: Path) -> Iterator[None]:
    """Whatever parsers raise of a file becomes a DataError; numpy does not warn of values that are no
    numbers, which are told about later, as an error.
    """
    try:
        with np.errstate(invalid="ignore", over="ignore"):
            yield
    except (MemoryError, RecursionError, OverflowError):
        raise DataError(
            f"{file}: asks for more memory than there is, the file is damaged or has to be thinned out"
        ) from None
    except PermissionError:
        raise DataError(f"{file}: may not be read (permission denied)") from None
    except DataError:
        raise
    except DAMAGED as error:  # a reader should have said more
        said = " ".join(str(error).split())[:120]
        raise DataError(
            f"{file}: cannot be read ({type(error).__name__}: {said}), the file is damaged"
        ) from error


def read_bytes(path: Path) -> bytes:
    """The whole file.

    Raises:
        DataError: the file is empty.
    """
    data = path.read_bytes()
    if not data.strip():
        raise DataError(f"{path}: the file is empty ({len(data)} bytes)")
    return data


def text_bytes(path: Path) -> bytes:
    """The whole of a text file without its byte order mark; UTF-16, which some editors call Unicode,
    becomes UTF-8.

    Raises:
        DataError: the file is empty, or begins with the mark of UTF-16 and is something else.
    """
    data = read_bytes(path)
    if data.startswith(codecs.BOM_UTF8):
        data = data[len(codecs.BOM_UTF8) :]
    elif data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            data = data.decode("utf-16").encode()
        except UnicodeError:
            raise DataError(f"{path}: begins like UTF-16 text but is not, the file is damaged") from None
    if not data.strip():
        raise DataError(f"{path}: the file is empty (a byte order mark alone)")
    return data


def parse_json(path: Path, damaged: str) -> Any:
    """What a file of JSON says.

    Raises:
        DataError: "PATH: {damaged}", in which {} is what is wrong with it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, OSError, RecursionError) as error:
        raise DataError(f"{path}: {damaged.format(str(error).splitlines()[0])}") from None


def tell(path: Path, sentence: str) -> None:
    """Say what was guessed or left out of a file, as a DataWarning."""
    warnings.warn(f"{path}: {sentence}", DataWarning, stacklevel=3)


def parse_numbers(text: bytes) -> npt.NDArray[np.float64]:
    """White-space separated numbers.

    Raises:
        ValueError: something in ``text`` is not a number.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            return np.fromstring(  # type: ignore[call-overload,no-any-return,unused-ignore]
                text, dtype=np.float64, sep=" "
            )
        except (DeprecationWarning, ValueError):
            word = next((w for w in text.split() if not is_number(w)), b"")
            hint = " (decimal points are expected)" if b"," in word else ""
            raise ValueError(f"{word[:20].decode('latin-1')!r} is not a number{hint}") from None


def is_number(word: bytes) -> bool:
    """Whether a word is a number as C and numpy read it: Python's underscores within digits are none."""
    try:
        float(word)
    except ValueError:
        return False
    return b"_" not in word
