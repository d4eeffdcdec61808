"""The image network's features of every object, computed once and kept in a file (facts 4.6:
"offline features").

PointCMT's stages II and III need F_img of the training objects and nothing else of the image network: with 20
rendered views of 224x224 pixels the pictures of ModelNet40 take 29 GB, their features 20 MB. The file is
memory-mapped, written in chunks while the pictures stream through, and named by a key of the renderer, the
data and the network, so that whatever changes of them leads to another file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pointlift.system.atomic import RunWriteError, atomic_write
from pointlift.teachers.dense_features import DenseFeatures
from pointlift.teachers.files import teacher_identity
from pointlift.teachers.view_network import ViewNetwork

__all__ = ["features_key", "features_of", "teacher_features"]

Features = npt.NDArray[np.float32]


class PictureSource(Protocol):
    """Pictures of n objects by number, with a key that changes with any of them; `ViewSource` is one."""

    @property
    def key(self) -> str: ...
    @property
    def names(self) -> Sequence[str]: ...
    def __len__(self) -> int: ...
    def images(self, indices: Sequence[int]) -> Tensor: ...


def features_key(net: ViewNetwork | DenseFeatures, source: PictureSource) -> str:
    """32 hexadecimal digits that change with the network's weights, the renderer,
    its settings and any object of the data.
    """
    return hashlib.sha256(f"{teacher_identity(net)} {source.key}".encode()).hexdigest()[:32]


def teacher_features(
    net: ViewNetwork | DenseFeatures,
    source: PictureSource,
    folder: str | Path,
    batch_size: int = 32,
    device: torch.device | str = "cpu",
) -> Features:
    """(n, D) float32, memory-mapped and read-only: row i is `net.embed` of object i of `source`,
    in eval mode.

    The file is folder/features-KEY.npy. Where it is there already, nothing is computed. Otherwise it grows as
    .features-KEY.part.npy, with a note of the rows that are done; a process that is killed loses at most one
    chunk of `batch_size` objects, and the next call goes on behind the last whole one. The network's mode and
    device are restored. One process at a time may write.

    Raises ValueError for a batch size below 1, an empty source, or features that are NaN or infinite (naming
    the object); RunWriteError for a folder that cannot be written to; and as `source.images` does.
    """
    if batch_size < 1 or len(source) < 1:
        raise ValueError(
            f"teacher_features: got a batch size of {batch_size} and {len(source)} objects, "
            "expected at least 1 of each."
        )
    key = features_key(net, source)
    final = Path(folder) / f"features-{key}.npy"
    shape = (len(source), net.embed_dim)
    if final.is_file():
        return _opened(final, shape)
    part, note = final.with_name(f".features-{key}.part.npy"), final.with_name(f".features-{key}.json")
    with _writing(final):
        rows, done = _resumed(part, note, shape, batch_size) or _begun(part, note, shape)
    modes = {m: m.training for m in net.modules()}
    home = next(net.parameters()).device
    net.eval().to(device)
    try:
        while done < len(source):
            stop = min(done + batch_size, len(source))
            rows[done:stop] = _computed(net, source, range(done, stop), device)
            done = stop
            with _writing(final):
                rows.flush()
                _write_note(note, shape, done, batch_size)
    finally:
        net.to(home)
        for module, mode in modes.items():
            module.training = mode
    del rows
    with _writing(final):
        _sync(part)
        os.replace(part, final)
        note.unlink(missing_ok=True)
    return _opened(final, shape)


def features_of(features: Features, indices: Tensor) -> Tensor:
    """(B, D) float32 rows of a memory-mapped file, copied, in the order of (B,) indices."""
    return torch.from_numpy(np.array(features[indices.cpu().numpy()], dtype=np.float32))


@torch.no_grad()
def _computed(
    net: ViewNetwork | DenseFeatures, source: PictureSource, indices: range, device: torch.device | str
) -> Features:
    features = net.embed(source.images(list(indices)).to(device)).float().cpu()
    bad = ~torch.isfinite(features).all(1)
    if bool(bad.any()):
        which = indices[int(bad.nonzero()[0])]
        raise ValueError(
            f"The image network's features of {source.names[which]} are NaN or infinite: its training has "
            "diverged, lower its learning rate."
        )
    computed: Features = features.numpy()
    return computed


@contextmanager
def _writing(final: Path) -> Iterator[None]:
    """Failures of the disk as one sentence."""
    try:
        yield
    except OSError as error:
        raise RunWriteError(
            f"{final} could not be written ({error.strerror or error}): make room, or name another folder."
        ) from error


def _resumed(part: Path, note: Path, shape: tuple[int, int], chunk: int) -> tuple[Any, int] | None:
    """The file that a killed process left and how many of its rows are done;
    None where there is none that can be gone on with.

    Chunks of another size start anew: their sums may round differently.
    """
    if not (part.is_file() and note.is_file()):
        return None
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
        rows = np.lib.format.open_memmap(part, mode="r+")
        fits = (
            [known["shape"], known["chunk"]] == [list(shape), chunk]
            and rows.shape == shape
            and rows.dtype == np.float32
        )
        return (rows, int(known["rows"])) if fits else None
    except (ValueError, KeyError, TypeError):  # half written by something else than this module
        return None


def _begun(part: Path, note: Path, shape: tuple[int, int]) -> tuple[Any, int]:
    """A new file with all its room on disk: a memory map that runs out of it would end the process."""
    part.parent.mkdir(parents=True, exist_ok=True)
    note.unlink(missing_ok=True)
    rows = np.lib.format.open_memmap(part, mode="w+", dtype=np.float32, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with part.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, part.stat().st_size)
    return rows, 0


def _write_note(note: Path, shape: tuple[int, int], rows: int, chunk: int) -> None:
    with atomic_write(note) as temporary:
        temporary.write_text(
            json.dumps({"shape": list(shape), "rows": rows, "chunk": chunk}), encoding="utf-8"
        )


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _opened(path: Path, shape: tuple[int, int]) -> Features:
    try:
        rows: Features = np.load(path, mmap_mode="r")
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(
            f"{path} is damaged ({type(error).__name__}): delete it, it will be made again."
        ) from None
    if rows.shape != shape or rows.dtype != np.float32:
        raise ValueError(
            f"{path} holds {rows.dtype} of shape {rows.shape}, expected float32 of {shape}: delete it, "
            "it will be made again."
        )
    return rows
