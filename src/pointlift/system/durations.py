"""How long something takes, in words, and how far it is."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

__all__ = ["counted", "in_words"]

Item = TypeVar("Item")
EVERY = 10.0  # seconds between two lines


def in_words(seconds: float) -> str:
    """'12 s', '3 min' or '2.5 h'."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def counted(items: Sequence[Item], what: str, logger: logging.Logger) -> Iterator[Item]:
    """The items, one after another; every ten seconds the logger is told, at the level INFO, how many are
    done: '300 of 12,311 clouds checked, about 3 min left'.
    """
    started = said = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now - said >= EVERY:
            left = in_words((now - started) / done * (len(items) - done))
            logger.info("%s of %s %s, about %s left", f"{done:,}", f"{len(items):,}", what, left)
            said = now
        yield item
