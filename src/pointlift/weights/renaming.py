"""Names of foreign weights by the user's word: from a map, or by the order in which the tensors come."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import yaml
from torch import Tensor

from pointlift.weights.files import WeightsError, is_safetensors

__all__ = ["Pairs", "in_order", "read_rename", "renamed"]

Pairs = tuple[tuple[str, str], ...]  # (name in the file, name in the network)
LAST = ("weight", "bias", "running_mean", "running_var")  # what torch calls the tensors of its layers


def read_rename(rename: str | Path | Mapping[str, str | None]) -> dict[str, str | None]:
    """The map in a YAML or JSON file, or the one that is given: {name in the file: name in the network}.

    A name that ends with a dot stands for all that begin with it, null for tensors to leave out. Raises
    FileNotFoundError for a missing file, WeightsError for one that holds something else.
    """
    if isinstance(rename, Mapping):
        return dict(rename)
    path = Path(rename)
    if not path.is_file():
        raise FileNotFoundError(f"No rename map at {path}: check the path.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(
            f"{path} is no YAML or JSON ({reason}): write one 'old name: new name' a line."
        ) from None
    if not isinstance(content, dict) or not content:
        raise WeightsError(f"{path} holds no map, expected one 'old name: new name' a line.")
    for old, new in content.items():
        if not isinstance(old, str) or not (new is None or isinstance(new, str)):
            raise WeightsError(
                f"{path} maps {old!r} to {new!r}, expected a name, or null for tensors to leave out."
            )
        if new is not None and old.endswith(".") and new and not new.endswith("."):
            raise WeightsError(
                f"{path} maps {old!r}, which stands for all names that begin with it, to {new!r}: "
                "end both with a dot, or neither."
            )
    return content


def renamed(
    path: Path, tensors: Mapping[str, Tensor], rename: Mapping[str, str | None]
) -> tuple[dict[str, Tensor], Pairs, tuple[str, ...]]:
    """The tensors of the file `path` by their new names; those that were renamed, and those left out.

    A whole name goes before the beginning of one, a longer beginning before a shorter one.
    Raises WeightsError for an entry that no tensor has, and for two tensors of one name.
    """
    beginnings = sorted((k for k in rename if k.endswith(".")), key=len, reverse=True)
    found: dict[str, Tensor] = {}
    pairs: list[tuple[str, str]] = []
    left_out: list[str] = []
    used: set[str] = set()
    for old, tensor in tensors.items():
        key = old if old in rename else next((b for b in beginnings if old.startswith(b)), None)
        if key is None:
            new: str | None = old
        else:
            used.add(key)
            new = rename[key]
            if new is not None and key != old:
                new += old.removeprefix(key)
        if new is None:
            left_out.append(old)
            continue
        if new in found:
            raise WeightsError(
                f"{path} holds two tensors that the rename map calls {new}: rename one of them."
            )
        found[new] = tensor
        if new != old:
            pairs.append((old, new))
    if unused := [k for k in rename if k not in used]:
        first = ", ".join(list(tensors)[:3])
        raise WeightsError(
            f"The rename map has {unused[0]!r}, but no tensor of {path} is called so or begins with it "
            f"(it has {first}, ...): correct or remove this line."
        )
    return found, tuple(pairs), tuple(left_out)


def in_order(
    path: Path,
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    allowed: Callable[[str], bool],
) -> tuple[dict[str, Tensor], Pairs]:
    """The tensors of the file `path` by the network's names: the first is the first, and so on.

    Every shape must be the network's, but for names that are `allowed` to differ; a weight, bias or running
    statistic of torch's must stand where the network has one. Counters of batch norm play no part. Raises
    WeightsError naming the first place that does not fit, and for safetensors, which keep no order.
    """
    if is_safetensors(path):
        raise WeightsError(
            f"{path} is a safetensors file, which does not keep the order of its tensors: give a rename map "
            "(weights_rename), or the torch file that it was made from."
        )
    given = [(n, t) for n, t in tensors.items() if not n.endswith("num_batches_tracked")]
    wanted = [(n, t) for n, t in expected.items() if not n.endswith("num_batches_tracked")]
    if len(given) != len(wanted):  # a file without the classifier, say
        wanted = [(n, t) for n, t in wanted if not allowed(n)]
    if len(given) != len(wanted):
        raise WeightsError(
            f"{path} cannot be read by order: it has {len(given)} tensors and the network {len(wanted)}, "
            "expected as many; use the network they were made for, or give a rename map (weights_rename)."
        )
    for number, ((old, theirs), (new, ours)) in enumerate(zip(given, wanted), 1):
        ends = old.rpartition(".")[2], new.rpartition(".")[2]
        alike = ends[0] == ends[1] or not set(ends) <= set(LAST)
        if alike and (theirs.shape == ours.shape or allowed(new)):
            continue
        raise WeightsError(
            f"{path} cannot be read by order: its tensor {number} of {len(given)}, {old} of shape "
            f"{_shape(theirs)}, stands where the network has {new} of shape {_shape(ours)}; use the network "
            "they were made for, or give a rename map (weights_rename)."
        )
    pairs = tuple((old, new) for (old, _), (new, _) in zip(given, wanted))
    return {new: tensors[old] for old, new in pairs}, pairs


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
