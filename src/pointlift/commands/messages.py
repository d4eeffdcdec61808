"""What the user is told: one sentence for an error that they can do something about,
warnings without lines of code.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from typing import Any

__all__ = ["explain", "notes_shown", "plain_warnings"]


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Warnings of pointlift as one sentence on stderr, without the line of code;
    everybody else's as Python shows them.
    """

    def show(
        message: Warning | str, category: type[Warning], filename: str, *where: Any, **options: Any
    ) -> None:
        if f"{os.sep}pointlift{os.sep}" in filename and issubclass(category, UserWarning):
            print(f"pointlift: warning: {message}", file=sys.stderr)
        else:
            shown(message, category, filename, *where, **options)

    with warnings.catch_warnings():
        shown = warnings.showwarning
        warnings.showwarning = show
        yield


@contextlib.contextmanager
def notes_shown() -> Iterator[None]:
    """What pointlift notes along the way, such as which files of a folder are read, as lines on stderr; by
    the first process.
    """
    logger = logging.getLogger("pointlift")
    handler, level = logging.StreamHandler(), logger.level
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.addFilter(_first_process)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _first_process(record: logging.LogRecord) -> bool:
    from pointlift.system.distributed import process_rank  # imports torch, which whoever notes something has

    return process_rank() == 0


def explain(error: BaseException) -> str | None:
    """One sentence for an error that the user can do something about; None for a programming error."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        where = f" ({error.filename})" if error.filename else ""
        return f"the disk is full{where}; nothing half written was kept, free some space and run again"
    if isinstance(error, OSError):
        if type(error).__str__ is OSError.__str__ and error.strerror:
            return f"{error.filename}: {error.strerror.lower()}" if error.filename else error.strerror.lower()
        return text or type(error).__name__
    if isinstance(error, ValueError):  # what every part of pointlift raises for input it cannot use
        return text or type(error).__name__
    kind = type(error)
    full_name = f"{kind.__module__}.{kind.__qualname__}"
    if kind.__name__ in ("SafetensorError", "UnpicklingError"):
        return f"a file of weights cannot be read: {text}"
    full = kind is RuntimeError and re.search("not enough memory|can't allocate memory", text)
    if kind.__name__ == "OutOfMemoryError" or isinstance(error, MemoryError) or full:
        return f"out of memory: use smaller batches, fewer points or a larger voxel size ({text[:120]})"
    if kind.__name__ == "MisconfigurationException" or full_name.endswith("backend.BackendError"):
        return text
    if kind is RuntimeError and "PytorchStreamWriter" in text:
        return f"a checkpoint could not be written, probably because the disk is full ({text[:120]})"
    return None
