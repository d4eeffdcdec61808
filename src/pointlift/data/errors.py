"""The exceptions that readers of pointlift raise for data it cannot use."""

from __future__ import annotations

__all__ = ["DataError", "MissingDataError"]


class DataError(ValueError):
    """A file, folder or dataset cannot be used; the message is one sentence saying what, where and how to fix it."""


class MissingDataError(DataError, FileNotFoundError):
    """A file or dataset is not where it was looked for."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""
