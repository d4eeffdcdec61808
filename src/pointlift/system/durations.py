"""How long something takes, in words."""

from __future__ import annotations

__all__ = ["in_words"]


def in_words(seconds: float) -> str:
    """'12 s', '3 min' or '2.5 h'."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
