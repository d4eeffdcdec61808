"""Image networks' weights from other people's files: safetensors, or torch files (.pth .pt .th .t7 .tar) read without running code."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

__all__ = ["ImageWeightsReport", "WeightsError", "load_image_weights", "read_tensors"]

CONTAINERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "weights")
PREFIXES = ("module.", "backbone.", "model.")


class WeightsError(ValueError):
    """A file whose weights cannot be loaded; the message is one sentence."""


@dataclass(frozen=True)
class ImageWeightsReport:
    """What became of every tensor of the file and of the network.

    matched: names loaded. missing: in the network only. unexpected: in the file only. mismatched: names with two shapes. The last
    three can only be counters of batch norm, which older files lack, and names that the caller allowed to differ.
    prefixes: what was stripped from the file's names.
    """

    path: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]
    prefixes: tuple[str, ...]

    def render(self) -> str:
        """One line per group that is not empty."""
        lines = [f"{self.path}: {len(self.matched)} of {len(self.matched) + len(self.missing) + len(self.mismatched)} tensors loaded"]
        for what, names in (("missing", self.missing), ("unexpected", self.unexpected), ("of another shape", self.mismatched)):
            if names:
                lines.append(f"  {what}: {len(names)} ({', '.join(names[:4])}{', ...' if len(names) > 4 else ''})")
        if self.prefixes:
            lines.append(f"  stripped from the names: {', '.join(self.prefixes)}")
        return "\n".join(lines)


def load_image_weights(path: str | Path, model: nn.Module, allow: Sequence[str] = ()) -> ImageWeightsReport:
    """Load the weights in `path` into `model`, strictly, and report.

    A dictionary under "state_dict", "model" or the like is unwrapped, and the prefixes "module.", "backbone." and "model." are
    stripped where the model does not have them. allow: names of modules that may be missing, unexpected or of another shape,
    usually the classifier (("fc",)); they keep the model's own values.

    Raises FileNotFoundError for a missing file, WeightsError for one that is truncated, holds Python objects besides tensors (they
    are never executed) or does not fit; the model is then unchanged.
    """
    path = Path(path)
    found = read_tensors(path)
    expected = model.state_dict()
    tensors, prefixes = _strip(path, found, expected)

    def allowed(name: str) -> bool:
        return name.endswith("num_batches_tracked") or any(name == a or name.startswith(f"{a}.") for a in allow)

    missing = [n for n in expected if n not in tensors]
    unexpected = [n for n in tensors if n not in expected]
    mismatched = [n for n in expected if n in tensors and tensors[n].shape != expected[n].shape]
    matched = [n for n in expected if n in tensors and tensors[n].shape == expected[n].shape]
    refused = [n for n in (*missing, *unexpected, *mismatched) if not allowed(n)]
    if refused:
        groups = (("missing", missing), ("unexpected", unexpected), ("of another shape", mismatched))
        counts = [f"{len(bad)} {what} (first: {bad[0]})" for what, names in groups if (bad := [n for n in names if not allowed(n)])]
        raise WeightsError(
            f"{path} does not fit {type(model).__name__}: {len(matched)} of {len(expected)} tensors match, {', '.join(counts)}; "
            f"use the network they were made for, or name what may differ (allow=({refused[0].rpartition('.')[0] or refused[0]!r},))."
        )
    if not any(n for n in matched if not n.endswith("num_batches_tracked")):
        raise WeightsError(f"{path} does not fit {type(model).__name__}: none of its {len(tensors)} tensors match.")
    model.load_state_dict({n: tensors[n] for n in matched}, strict=False)
    return ImageWeightsReport(str(path), tuple(matched), tuple(missing), tuple(unexpected), tuple(mismatched), prefixes)


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """{name: tensor} of a safetensors or torch file, containers unwrapped, names as they are. Raises like `load_image_weights`."""
    path = Path(path)
    if path.is_dir():
        raise WeightsError(f"{path} is a folder, expected a file of weights.")
    if not path.is_file():
        raise FileNotFoundError(f"No weights at {path}: check the path.")
    with path.open("rb") as file:
        start = file.read(9)
    if not start:
        raise WeightsError(f"{path} is empty: use another copy.")
    if start[8:9] == b"{":  # behind the header's length; in a zip archive the compression method is there
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{path} is a truncated or damaged safetensors file ({error}): use another copy.") from None
    if path.suffix == ".safetensors" and not _is_torch_file(path):
        raise WeightsError(f"{path} is not a safetensors file, whatever its name says: use another copy.")
    return _unwrap(path, _read_pickle(path))


def _read_pickle(path: Path) -> Any:
    try:
        with path.open("rb") as file:  # by name, torch takes whatever ends in .safetensors for what it says
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        name = re.search(r"(?:GLOBAL |global |class |function )`?([\w.]+)", str(error))
        what = f" ({name.group(1)})" if name and "." in name.group(1) else ""
        if what or "Unsupported" in str(error) or ("weights_only" in str(error) and _is_torch_file(path)):
            raise WeightsError(
                f"{path} holds Python objects besides tensors{what}, which pointlift never executes: save its state_dict alone, with "
                "torch.save or as safetensors, where you trust it."
            ) from None
        raise WeightsError(f"{path} is not a file of weights: expected safetensors or what torch.save writes.") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, UnicodeDecodeError) as error:
        if _is_torch_file(path):
            raise WeightsError(f"{path} is a truncated or damaged torch file ({_first_line(error)}): use another copy.") from None
        raise WeightsError(f"{path} is not a file of weights: expected safetensors or what torch.save writes.") from None


def _is_torch_file(path: Path) -> bool:
    """Whether it starts like a zip archive or a pickle of protocol 2 or later."""
    with path.open("rb") as file:
        start = file.read(2)
    return zipfile.is_zipfile(path) or start == b"PK" or start[:1] == b"\x80"


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0].rstrip(".:") if text else type(error).__name__


def _unwrap(path: Path, content: Any) -> dict[str, Tensor]:
    for _ in range(3):  # {"model": {"state_dict": {...}}} occurs
        if not isinstance(content, Mapping):
            break
        if content and all(isinstance(v, Tensor) for v in content.values()):
            return {str(k): v for k, v in content.items()}
        inner = next((content[k] for k in CONTAINERS if isinstance(content.get(k), Mapping)), None)
        if inner is None:
            tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
            if tensors:
                return tensors
            break
        content = inner
    raise WeightsError(f"{path} holds no named tensors: expected a state_dict, alone or under one of {', '.join(CONTAINERS)}.")


def _strip(path: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Rename tensors to the network's names; those it does not know keep the shortest form of theirs."""
    stripped: dict[str, Tensor] = {}
    used: set[str] = set()
    for name, tensor in found.items():
        forms = list(_forms(name))
        form, removed = next(((f, r) for f, r in forms if f in expected), forms[-1])
        if form in stripped:
            raise WeightsError(f"{path} holds two tensors that are both {form} once prefixes are stripped: rename one of them.")
        stripped[form] = tensor
        used |= set(removed)
    return stripped, tuple(p for p in PREFIXES if p in used)


def _forms(name: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    removed: tuple[str, ...] = ()
    yield name, removed
    while prefix := next((p for p in PREFIXES if name.startswith(p)), None):
        name, removed = name.removeprefix(prefix), (*removed, prefix)
        yield name, removed
