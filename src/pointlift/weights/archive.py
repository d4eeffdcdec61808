"""The one format of all files of weights that pointlift writes:
safetensors, with JSON under one key of its metadata.

The JSON says in "kind" what the file is and in "sha256" what its tensors must add up to, beside what the kind
needs. A file never contains code. Files of before are read too: teachers and generators had keys of their
own, checkpoints had no "kind", image networks had a metadata entry per fact, and only checkpoints had a
checksum.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pointlift.system.atomic import atomic_write
from pointlift.weights.files import what_instead

__all__ = ["KEY", "Archive", "Kind", "digest", "read_archive", "read_kind", "write_archive"]

Kind = Literal["network", "teacher", "generator", "image"]
KEY = "pointlift"  # of the one metadata entry that holds everything
FORMER_KEYS: dict[str, Kind] = {"pointlift.view_network": "teacher", "pointlift_generator": "generator"}


@dataclass(frozen=True)
class Archive:
    """What a safetensors file holds.

    Attributes:
        kind: what wrote it; None for files that are none of ours, and for image networks of before.
        content: what its metadata say; those of a foreign file as they are, and None where they are damaged.
        tensors: by name.
    """

    kind: str | None
    content: dict[str, Any] | None
    tensors: dict[str, Tensor]

    def intact(self) -> bool:
        """Whether the tensors are those that were written, as far as the file says."""
        known = (self.content or {}).get("sha256")
        return known is None or known == digest(self.tensors)


def write_archive(
    path: str | Path,
    kind: Kind,
    content: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
) -> Path:
    """Write `tensors` and the JSON of `content` to `path`; the file appears whole or not at all.

    Raises ValueError for content that JSON cannot hold, OSError where the file cannot be written.
    """
    stored = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    try:
        text = json.dumps({**content, "kind": kind, "sha256": digest(stored)}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"A checkpoint's config must be plain JSON without NaN ({error}): convert arrays and paths first."
        ) from None
    with atomic_write(path) as temporary:
        temporary.write_bytes(save(stored, {KEY: text}))
    return Path(path)


def read_archive(path: str | Path, weights: bool = True) -> Archive:
    """What is in a safetensors file; without `weights`, none of its tensors is read. Nothing is verified.

    Raises SafetensorError for a damaged file and for what is no safetensors file,
    OSError for one that is not there.
    """
    with safe_open(path, framework="pt") as file:
        header: dict[str, str] = file.metadata() or {}
        tensors = {k: file.get_tensor(k) for k in file.keys()} if weights else {}  # noqa: SIM118  (not a dict)
    key = next((k for k in (KEY, *FORMER_KEYS) if k in header), None)
    if key is None:
        return Archive(None, dict(header), tensors)
    try:
        content = dict(json.loads(header[key]))
    except (ValueError, TypeError):
        return Archive(FORMER_KEYS.get(key, "network"), None, tensors)
    return Archive(str(content.pop("kind", FORMER_KEYS.get(key, "network"))), content, tensors)


def read_kind(
    path: Path,
    kind: Kind,
    refusal: type[Exception],
    missing: str,
    damaged: str,
    other: str,
) -> Archive:
    """As `read_archive`, of a file that must be of the kind.

    Raises FileNotFoundError ("No {missing}"), and the refusal for a file that was not fetched, cannot be read
    ("PATH {damaged}", in which {} is what was wrong) or is of another kind ("PATH {other}").
    """
    if not path.is_file():
        raise FileNotFoundError(f"No {missing}")
    if instead := what_instead(path):
        raise refusal(f"{path} {instead}.")
    try:
        archive = read_archive(path)
    except SafetensorError as error:
        raise refusal(f"{path} {damaged.format(error)}") from None
    if archive.kind != kind:
        raise refusal(f"{path} {other}")
    return archive


def digest(tensors: Mapping[str, Tensor], start: str = "") -> str:
    """sha256 over names, dtypes, shapes and values of `tensors`, behind `start`."""
    total = hashlib.sha256(start.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
