"""The exceptions that readers of pointlift raise for data it cannot use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["DataError", "DataWarning", "MissingDataError", "worker_errors"]


class DataError(ValueError):
    """A file, folder or dataset cannot be used; the message is one sentence saying what,
    where and how to fix it.
    """


class MissingDataError(DataError, FileNotFoundError):
    """A file or dataset is not where it was looked for."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class DataWarning(UserWarning):
    """Something in a file was guessed or left out; the message is one sentence that names the file."""


@contextmanager
def worker_errors() -> Iterator[None]:
    """An error of data or files that a loader's process raised arrives wrapped in its traceback;
    here it is its own sentence again.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        lines = str(error).strip().splitlines()
        sentence = lines[-1].partition(": ")[2] if len(lines) > 1 and lines[0].startswith("Caught ") else ""
        if sentence:
            raise type(error)(sentence) from None
        raise
