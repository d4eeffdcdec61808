"""One bar over the runs of a table; plain lines where the output is no terminal."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from typing import TextIO

from pointlift.report.tables import display_width

__all__ = ["Progress"]

WIDTH = 24


class Progress:
    """Counts runs. On a terminal the last line is a bar that is drawn again and again;
    elsewhere every event is a line.
    """

    def __init__(self, total: int, done: int, stream: TextIO | None = None) -> None:
        self.total, self.done, self.failed = total, done, 0
        self.stream = sys.stdout if stream is None else stream
        self.live = self.stream.isatty()
        self._before = done
        self._started = time.monotonic()

    def say(self, text: str) -> None:
        """A line that stays."""
        self.stream.write(f"\r\x1b[K{text}\n" if self.live else f"{text}\n")
        self.stream.flush()

    def finished(self, label: str, what: str, failed: bool = False) -> None:
        """One more run is done, or has failed."""
        self.done += not failed
        self.failed += failed
        if failed or not self.live:
            self.say(f"[{self.done + self.failed:>{len(str(self.total))}}/{self.total}] {label}: {what}")

    def show(self, running: Sequence[str]) -> None:
        """Draw the bar; running: what is under way."""
        if not self.live:
            return
        over = self.done + self.failed
        full = round(WIDTH * over / max(1, self.total))
        text = f"[{'█' * full}{'░' * (WIDTH - full)}] {over}/{self.total} runs"
        text += f", {self.failed} failed" if self.failed else ""
        text += f", {_clock(time.monotonic() - self._started)}{self._remaining(over)}"
        text += f" | {'; '.join(running)}" if running else ""
        room = shutil.get_terminal_size().columns - 1
        while display_width(text) > room:
            text = text[:-1]
        self.stream.write(f"\r\x1b[K{text}")
        self.stream.flush()

    def close(self) -> None:
        if self.live:
            self.stream.write("\r\x1b[K")
            self.stream.flush()

    def _remaining(self, over: int) -> str:
        fresh = over - self._before
        if not fresh or over >= self.total:
            return ""
        return f" (about {_clock((time.monotonic() - self._started) / fresh * (self.total - over))} left)"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
