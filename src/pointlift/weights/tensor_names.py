"""Names of tensors in files of weights: what a file holds, what its names have in common, and what becomes of
them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

__all__ = [
    "Divided",
    "Naming",
    "WeightFile",
    "divided",
    "inside",
    "is_resnet",
    "names_below",
    "plain_resnet",
    "remaining",
    "renamed_stem",
    "split_below",
    "top_modules",
    "wrapper_of",
]

Sections = Mapping[str, Mapping[str, Tensor]]
TRUNK = re.compile(r"layer[1-4]\.\d+\.((conv|bn)[1-3]|downsample\.[0-2])\.\w+")


@dataclass(frozen=True)
class WeightFile:
    """What a file holds: dictionaries of tensors (`sections`), the one with the weights if nothing says
    otherwise (`main`, which may be missing), and the names at its top level."""

    sections: Sections
    main: str | None
    keys: frozenset[str]

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        return {} if self.main is None else self.sections[self.main]


@dataclass(frozen=True)
class Naming:
    """scheme and why it is this one; the section it reads; names: of the file -> of the network; dropped: of
    the file -> why (a section is part of its tensors' names there). head: modules of the network that such
    files lack or hold in another size. others: why the tensors of other sections are not used. hint: what to
    use where the network does not fit."""

    scheme: str
    why: str
    section: str
    names: dict[str, str]
    dropped: dict[str, str] = field(default_factory=dict)
    head: tuple[str, ...] = ("fc",)
    others: str = "another copy of the network"
    hint: str = ""


def wrapper_of(names: Iterable[str]) -> str:
    """ "module." where a data-parallel wrapper put it before every name."""
    return "module." if all(n.startswith("module.") for n in names) else ""


def inside(names: Iterable[str], prefix: str) -> set[str]:
    """Names below `prefix`, without it."""
    return set(names_below(names, prefix).values())


class Divided(NamedTuple):
    """The section and its names, what stands before all of them, and those of every part."""

    section: str
    names: Collection[str]
    wrapper: str
    parts: list[set[str]]


def divided(file: WeightFile, section: str | None, *parts: str) -> Divided | None:
    """Names below each of `parts`, for a section with the first of them and nothing beside all of them."""
    if section is None:
        return None
    names = file.sections[section].keys()
    p = wrapper_of(names)
    found = [inside(names, f"{p}{part}") for part in parts]
    return Divided(section, names, p, found) if found[0] and sum(map(len, found)) == len(names) else None


def plain_resnet(file: WeightFile, *beside: str) -> tuple[str, dict[str, str]] | None:
    """Section and unwrapped names of a ResNet with these modules beside its stages, and perhaps fc."""
    p = wrapper_of(file.tensors)
    names = {n: n[len(p) :] for n in file.tensors}
    if file.main is None or not is_resnet(names.values()):
        return None
    return (file.main, names) if top_modules(names.values()) - {"fc"} == {*beside} else None


def is_resnet(names: Collection[str]) -> bool:
    """Whether the four stages of torchvision's ResNet are there,
    each with the convolutions and norms of its blocks.
    """
    trunk = [n for n in names if TRUNK.fullmatch(n)]
    return all(
        f"layer{s}.0.{m}" in trunk
        for s in (1, 2, 3, 4)
        for m in ("conv1.weight", "conv2.weight", "bn1.running_mean", "bn2.weight")
    )


def top_modules(names: Iterable[str]) -> set[str]:
    """First components of names outside the stages of a ResNet."""
    return {n.split(".")[0] for n in names if not TRUNK.fullmatch(n)}


def names_below(names: Iterable[str], prefix: str) -> dict[str, str]:
    """Names below `prefix`, and what they are without it."""
    return {n: n[len(prefix) :] for n in names if n.startswith(prefix)}


def split_below(
    names: Iterable[str], prefix: str, keep: Callable[[str], bool], why: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Names below `prefix` that are kept, without it, and those that are dropped because of `why`."""
    below = names_below(names, prefix)
    kept = {n: inner for n, inner in below.items() if keep(inner)}
    return kept, {n: why for n in below if n not in kept}


def remaining(
    names: Iterable[str],
    kept: Collection[str],
    prefix: str,
    why: str,
    otherwise: str,
) -> dict[str, str]:
    """Names that are not kept: `why` of those below `prefix`, and `otherwise`."""
    return {n: why if n.startswith(prefix) else otherwise for n in names if n not in kept}


def renamed_stem(
    names: Mapping[str, str], stem: Mapping[str, str], expected: Collection[str]
) -> dict[str, str]:
    """Names of a stem of three convolutions as timm has them, if the network has such a stem."""
    if "conv1.0.weight" not in expected:
        return dict(names)
    parts = {old: new.rpartition(".") for old, new in names.items()}
    return {
        old: f"{stem[module]}.{last}" if module in stem else names[old]
        for old, (module, _, last) in parts.items()
    }
