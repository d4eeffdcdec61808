"""Lines of plain decimal numbers, against Python's own float."""

from __future__ import annotations

import numpy as np
import pytest

from pointlift.data.files.formats.number_rows import parse_rows


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", " \n"])
def test_numbers_are_the_nearest_floats(end: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(57, 3)) * 10.0 ** rng.integers(-3, 5, size=(57, 3))
    words = [[f"{v:.{k}f}" for v, k in zip(row, rng.integers(0, 8, 3))] for row in values]
    text = end.join(" ".join(row) for row in words).encode()
    rows, bad = parse_rows(text, 3)
    assert bad == 0
    expected = np.array([[float(word) for word in row] for row in words])
    assert np.array_equal(rows, expected) and np.array_equal(np.signbit(rows), np.signbit(expected))


def test_the_last_line_may_or_may_not_end() -> None:
    for text in (b"1 2\n3 4", b"1 2\n3 4\n", b"\t1  2 \n\n3\t4\n\n"):
        rows, bad = parse_rows(text, 2)
        assert rows.tolist() == [[1, 2], [3, 4]] and bad == 0
    assert parse_rows(b"", 2)[0].shape == (0, 2) and parse_rows(b" \n", 2)[1] == 0


@pytest.mark.parametrize(
    "line", ["1 2", "1 2 3 4", "1 2 x", "1 2 3e4", "1 2 -", "1 2 .", "1 2 3.", "1 2 nan", "1 2 1.2.3",
             "1 2 3\x10", "1 2 1234567890123456", "1 2 +-3"]
)  # fmt: skip
def test_the_first_line_of_another_kind_is_named(line: str) -> None:
    rows, bad = parse_rows(f"1 2 3\n4 5 6\n{line}\n7 8 9\n".encode("latin-1"), 3)
    assert bad == 3
    assert rows.tolist() == [[1, 2, 3], [4, 5, 6]]
