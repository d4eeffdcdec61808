"""Names of code: "package.module:Name" of our own, and "path/to/file.py:Name" of the user's."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

__all__ = ["OwnCodeError", "load_own", "named", "names_own_code"]


class OwnCodeError(ValueError):
    """A file of the user's that cannot be used; the message is one sentence."""


def named(name: str) -> Any:
    """What "package.module:Name" names; the module is imported now."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def names_own_code(name: str) -> bool:
    """Whether `name` is "path/to/file.py:Name"."""
    file, colon, attribute = name.rpartition(":")
    return bool(colon) and file.endswith(".py") and attribute.isidentifier()


def load_own(name: str, what: str = "code", kind: str = "") -> Any:
    """What "path/to/file.py:Name" names; the file is run now.

    what, kind: the words for it in messages, e.g. "image network" and "function".
    Raises FileNotFoundError for a file that is not there,
    OwnCodeError for one that fails or has no such name.
    """
    file, _, attribute = name.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(
            f"No file {path}: your own {what} is named as path/to/file.py:{kind or 'Name'}."
        )
    spec = importlib.util.spec_from_file_location(f"pointlift_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise OwnCodeError(f"{path} cannot be imported as a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickling look a class's module up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's own code: whatever it raises is theirs, and says so
        del sys.modules[spec.name]
        raise OwnCodeError(f"{path} fails when it is imported ({type(error).__name__}: {error}).") from error
    if not hasattr(module, attribute):
        known = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise OwnCodeError(
            f"{path} has no {f'{kind} ' if kind else ''}{attribute!r} (it has: {', '.join(known) or 'none'})."
        )
    return getattr(module, attribute)
