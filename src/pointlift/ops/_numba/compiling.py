"""Says that kernels are being compiled, which takes minutes when pointlift runs for the first time.

Numba compiles a kernel when it is first called, and keeps it on disk; `numba:compile` is what it broadcasts
only where it found none there. What is said goes to the logger "pointlift.kernels" at the level INFO, so that
nobody sees it who has not asked for it, as the commands do.
"""

from __future__ import annotations

import logging
import time

from numba.core import event

__all__ = ["CompilingTold", "listen"]

logger = logging.getLogger("pointlift.kernels")
AFTER = 2.0  # seconds of compiling before anything is said
EVERY = 10.0  # seconds between two lines


class CompilingTold(event.Listener):
    """Counts pointlift's kernels as numba compiles them.

    Attributes:
        done: kernels that were compiled by this process. seconds: of compiling them.
    """

    def __init__(self) -> None:
        self.done, self.seconds = 0, 0.0
        self._depth = 0  # a kernel compiles those that it calls
        self._started = self._said = 0.0

    def on_start(self, compiled: event.Event) -> None:
        if _ours(compiled):
            self._depth += 1
            if self._depth == 1:
                self._started = time.monotonic()
            self._tell()

    def on_end(self, compiled: event.Event) -> None:
        if _ours(compiled):
            self.done += 1
            self._tell()
            self._depth -= 1
            if self._depth == 0:
                self.seconds += time.monotonic() - self._started

    def _tell(self) -> None:
        now = time.monotonic()
        spent = self.seconds + now - self._started
        if spent < AFTER or (self._said and now - self._said < EVERY):
            return
        self._said = now
        logger.info(
            "compiling kernels for this machine, at their first use only: %d done in %.0f s", self.done, spent
        )


def _ours(compiled: event.Event) -> bool:
    return str(compiled.data["dispatcher"].py_func.__module__).startswith("pointlift.")


def listen() -> None:
    """Count what numba compiles from here on; whoever imports kernels calls it, once."""
    event.register("numba:compile", CompilingTold())
