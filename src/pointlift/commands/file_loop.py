"""A user's files, one after another: a bad one is named and never stops the others."""

from __future__ import annotations

import errno
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from pointlift.commands.messages import explain
from pointlift.system.durations import in_words

__all__ = ["Progress", "in_one_sentence", "read_and_answer"]

Read = TypeVar("Read")
Answer = TypeVar("Answer")
Given = TypeVar("Given")
CLEAR = "\r\x1b[K"  # of the line that is written again
EVERY = 10.0  # seconds between lines of progress


class Progress:
    """How many of many files are done, on stderr: a line that is written again and again on a terminal
    where nothing else is printed, a line every ten seconds elsewhere; and what failed.

    Args:
        total: files. quiet: whether nothing is printed for each file.

    Attributes:
        failures: the sentences of the files that failed.
    """

    def __init__(self, total: int, quiet: bool) -> None:
        self.total, self.done = total, 0
        self.failures: list[str] = []
        self.live = quiet and total > 1 and sys.stderr.isatty()
        self._started = self._said = time.monotonic()

    def step(self) -> None:
        """One more file is done."""
        self.done += 1
        now = time.monotonic()
        left = (now - self._started) / self.done * (self.total - self.done)
        text = f"{self.done:,} of {self.total:,} files, about {in_words(left)} left"
        if self.live:
            sys.stderr.write(f"{CLEAR}{text}" if self.done < self.total else CLEAR)
            sys.stderr.flush()
        elif now - self._said >= EVERY and self.done < self.total:
            print(f"pointlift: {text}", file=sys.stderr)
            self._said = now

    def fail(self, sentence: str) -> None:
        """A file cannot be used, which is said at once where there are others."""
        self.failures.append(sentence)
        if self.total > 1:
            self.say(sentence)

    def say(self, line: str) -> None:
        """A line on stderr that stays."""
        print(f"{self.live * CLEAR}pointlift: {line}", file=sys.stderr)

    def nothing_done(self, out: str | os.PathLike[str]) -> ValueError:
        """The error of a command that could use no file; what stood at `out` still does."""
        stays = ", and the file of before stays as it was" if os.path.exists(out) else ""
        if self.total == 1:
            return ValueError(f"{self.failures[-1].rstrip('.')} ({out} was not written{stays})")
        return ValueError(f"none of the {self.total} files could be used, so {out} was not written{stays}")

    def interrupted(self, out: str | os.PathLike[str]) -> KeyboardInterrupt:
        """What Ctrl-C ends with, once what was done is written."""
        kept = f"; {out} has what was done" if self.done > len(self.failures) else ""
        return KeyboardInterrupt(f"interrupted after {self.done:,} of {self.total:,} files{kept}")

    def exit_code(self) -> int:
        """0, or 2 where files failed, of which it is said how many, or why the only one did."""
        if self.total == 1 and self.failures:
            self.say(self.failures[-1])
        elif self.failures:
            self.say(f"{len(self.failures)} of {self.total} files could not be used, see above")
        return 2 if self.failures else 0


def read_and_answer(
    files: Sequence[str],
    read: Callable[[str], Read],
    answer: Callable[[Sequence[Read]], Sequence[Answer]],
    progress: Progress,
    batch_size: int = 1,
    problems: Mapping[str, str] | None = None,
) -> Iterator[tuple[str, Read | None, Answer | None, str]]:
    """Every file with what `read` and `answer` give for it, or with None, None and the sentence that
    `progress` was told.

    answer: for up to `batch_size` files at a time; where it fails for several, they are tried one by one, so
    that the others go on. problems: files that are known to be none, with the sentence. Raises what is no
    fault of the user's (`explain`).
    """
    known = problems or {}
    for start in range(0, len(files), batch_size):
        outcome: dict[int, tuple[Read | None, Answer | None, str]] = {}
        read_ones: dict[int, Read] = {}
        for i in range(start, min(start + batch_size, len(files))):
            if files[i] in known:
                outcome[i] = None, None, known[files[i]]
                continue
            content, sentence = in_one_sentence(files[i], read, files[i])
            if content is None:
                outcome[i] = None, None, sentence
            else:
                read_ones[i] = content
        answered = _answered(files, read_ones, answer)
        outcome.update(answered)
        read_ones.clear()
        for i in sorted(outcome):
            if outcome[i][2]:
                progress.fail(outcome[i][2])
            yield files[i], *outcome.pop(i)  # not held while the next is read
            progress.step()


def _answered(
    files: Sequence[str],
    read_ones: Mapping[int, Read],
    answer: Callable[[Sequence[Read]], Sequence[Answer]],
) -> dict[int, tuple[Read | None, Answer | None, str]]:
    together = list(read_ones.values())
    if len(together) > 1:
        try:
            return {i: (found, said, "") for (i, found), said in zip(read_ones.items(), answer(together))}
        except Exception as error:
            if explain(error) is None:
                raise
    outcome: dict[int, tuple[Read | None, Answer | None, str]] = {}
    for i, found in read_ones.items():
        answers, sentence = in_one_sentence(files[i], answer, [found])
        outcome[i] = (None, None, sentence) if answers is None else (found, answers[0], "")
    return outcome


def in_one_sentence(file: str, work: Callable[[Given], Answer], given: Given) -> tuple[Answer | None, str]:
    """What `work` gives, or None and what was wrong, which names the file; warnings of pointlift name it too.

    Raises what is no fault of the user's, and a full disk.
    """
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always", UserWarning)
        try:
            found, sentence = work(given), ""
        except Exception as error:
            told = explain(error)
            if told is None or getattr(error, "errno", None) == errno.ENOSPC:  # which the next would meet too
                raise
            if os.environ.get("POINTLIFT_DEBUG") == "1":
                traceback.print_exc()
            found, sentence = None, told if file in told else f"{file}: {told}"
    for one in noted:
        if one.category is UserWarning and f"{os.sep}pointlift{os.sep}" in one.filename:
            text = str(one.message)
            print(f"pointlift: warning: {text if file in text else f'{file}: {text}'}", file=sys.stderr)
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno, source=one.source)
    return found, sentence
