"""Writing files so that a reader never sees half of one, and reading JSON back."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["RunWriteError", "atomic_folder", "atomic_write", "read_json", "write_json"]


class RunWriteError(OSError):
    """A file of a run that could not be written; what was there before still is.
    The message is one sentence.
    """


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it replaces ``path``, on any error it is removed.

    Missing parent folders are made. The temporary name keeps the suffix of ``path``, so that writers which
    look at the suffix (numpy, h5py, matplotlib) work unchanged. The data reach the disk before the name
    changes, so a crash or a full disk leaves either the old file or the new one. Symbolic links are followed:
    the target is replaced.

    Raises:
        IsADirectoryError: ``path`` is a folder.
        NotADirectoryError: a file stands where one of its parent folders should be.
        OSError: the folder cannot be written to, or the disk is full; ``path`` is then as it was before.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder, a file name is expected")
    _make_folder(target.parent)
    handle, name = tempfile.mkstemp(
        prefix=f".{target.stem}.", suffix=f".tmp{target.suffix}", dir=target.parent
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # after the writer, which may have put a file of its own there
        temporary.chmod(stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o666 & ~_umask())
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, target)
    except OSError as error:
        if error.errno == errno.ENOSPC and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def copy_whole(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Copy a file so that the target is whole or as it was."""
    with atomic_write(target) as temporary:
        shutil.copyfile(source, temporary)


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write plain values as JSON, as ``atomic_write`` does.
    Raises ValueError for NaN, which JSON does not have.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike[str]) -> Any:
    """What a JSON file holds. Raises OSError where there is none, ValueError for what is no JSON."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a new folder that becomes ``path`` when the block ends well and vanishes when it does not.

    Raises:
        FileExistsError: ``path`` is a file, or a folder that is not empty.
    """
    target = Path(path)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(
            f"{target} already exists and is not an empty folder; name another one or remove it first."
        )
    _make_folder(target.parent)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        staging = scratch / target.name
        staging.mkdir()
        yield staging
        if target.exists():
            target.rmdir()
        os.replace(staging, target)
    finally:
        shutil.rmtree(scratch)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        file = next(p for p in (path, *path.parents) if p.exists() and not p.is_dir())
        raise NotADirectoryError(
            f"cannot write into {path}: {file} is a file, a folder is expected"
        ) from None


def _umask() -> int:
    """The process' file-mode mask: mkstemp makes private files,
    the result should be as readable as any other.
    """
    mask = os.umask(0)
    os.umask(mask)
    return mask
