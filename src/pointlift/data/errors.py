"""The one exception that every reader of pointlift raises for data it cannot use."""

from __future__ import annotations

__all__ = ["DataError"]


class DataError(ValueError):
    """A file, folder or dataset cannot be used; the message is one sentence saying what, where and how to fix it."""
