"""The words that help whoever misspelled a name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean", "near"]


def near(name: str, known: Iterable[str], count: int = 1, cutoff: float = 0.6) -> list[str]:
    """The known names that are most like `name`, the nearest first;
    `cutoff` is how alike they must be, from 0 to 1.
    """
    return difflib.get_close_matches(name, list(known), count, cutoff)


def did_you_mean(
    name: str,
    known: Iterable[str],
    count: int = 1,
    cutoff: float = 0.6,
    quoted: bool = False,
) -> str:
    """'did you mean dgcnn?' or 'did you mean dgcnn or rscnn?'; '' where nothing known is like it."""
    found = near(name, known, count, cutoff)
    if quoted:
        found = [repr(n) for n in found]
    return f"did you mean {' or '.join(found)}?" if found else ""
