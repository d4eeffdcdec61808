"""Plain decimal numbers in lines of equal width, fast: text datasets have hundreds of millions of lines."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

import pointlift.ops._numba  # noqa: F401  # which says that these kernels, too, are being compiled

__all__ = ["parse_rows"]

SPACE, TAB, RETURN, LINE, MINUS, PLUS, POINT, ZERO, NINE = 32, 9, 13, 10, 45, 43, 46, 48, 57
POWERS = np.array([float(10**k) for k in range(23)])  # exact in float64
DIGITS = 15  # that an integer below 2**53 surely holds, so that digits / 10**k is correctly rounded


def parse_rows(text: bytes, width: int) -> tuple[npt.NDArray[np.float64], int]:
    """The numbers of every line that is not blank.

    Args:
        text: lines of ``width`` numbers such as ``-12.345``, divided by blanks or tabs.
        width: numbers in a line.

    Returns:
        ``(lines, width)`` numbers, each the float64 nearest to its digits, and 0; or of the lines above the
        first that is none of this kind, with the number of that line counted from 1. A number in another
        notation (``1e-3``, ``nan``), or of more than 15 digits, is none of this kind.
    """
    rows = np.empty((text.count(b"\n") + 1, width))
    found, bad = _parse(np.frombuffer(text, np.uint8), rows)
    return rows[:found], bad


@njit(cache=True, nogil=True)
def _parse(text: np.ndarray, rows: np.ndarray) -> tuple[int, int]:
    width, size = rows.shape[1], len(text)
    row, column, line, at = 0, 0, 1, 0
    while at < size:
        byte = text[at]
        if byte in (SPACE, TAB, RETURN):
            at += 1
        elif byte == LINE:
            if column != 0 and column != width:
                return row, line
            row += 1 if column else 0
            column = 0
            line += 1
            at += 1
        else:
            negative = byte == MINUS
            if negative or byte == PLUS:
                at += 1
            value, digits, behind, point = 0, 0, 0, False
            while at < size:
                byte = text[at]
                if ZERO <= byte <= NINE:
                    value = value * 10 + (byte - ZERO)
                    digits += 1 if value else 0
                    behind += 1 if point else 0
                elif byte == POINT and not point:
                    point = True
                    if at + 1 == size or not ZERO <= text[at + 1] <= NINE:
                        return row, line
                else:
                    break
                at += 1
            alone = at == size or byte in (SPACE, TAB, RETURN, LINE)
            before = text[at - 1]
            if not alone or column == width or digits > DIGITS or behind > 22 or not ZERO <= before <= NINE:
                return row, line
            number = value / POWERS[behind]
            rows[row, column] = -number if negative else number
            column += 1
    if column != 0 and column != width:
        return row, line
    return row + (1 if column else 0), 0
