"""What an image network does, watched on one picture:
which leaves run, in which order, and where its stem, stages and head are.

Everything is decided by module types, tensor shapes and the flow of tensors, never by names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from pointlift.inflation.report import InflationError

__all__ = ["Step", "Structure", "structure_of"]

STEM_CONVOLUTIONS = 3  # a stem deeper than this is a network


@dataclass
class Step:
    """One execution of a leaf: ids of its input and output tensors, and the output's shape."""

    name: str
    module: nn.Module
    source: int
    result: int
    shape: tuple[int, ...]


@dataclass
class Structure:
    """steps: leaves that map a tensor to a tensor, in execution order. stem, head: names of leaves. stages:
    names of the trunk's stages in order. classifier: name of the last linear map or None. shortcuts: 1x1
    convolutions beside a residual block's main path. ran: names of all leaves that were called, whatever they
    take and give."""

    steps: list[Step]
    stem: list[str]
    stages: list[str]
    head: list[str]
    classifier: str | None
    shortcuts: list[str]
    containers: dict[str, tuple[int, ...]] = field(default_factory=dict)
    ran: frozenset[str] = frozenset()

    @property
    def first_conv(self) -> str:
        return next(s.name for s in self.steps if isinstance(s.module, nn.Conv2d))

    @property
    def branching_stem(self) -> str | None:
        """Another layer that looks at the picture itself, which a single new input layer cannot stand in for;
        or None.
        """
        first = next(s for s in self.steps if s.name == self.first_conv)
        return next((s.name for s in self.steps if s.source == first.source and s is not first), None)


def is_leaf(module: nn.Module) -> bool:
    """A module that is swapped or kept as a whole: no children,
    or a normalisation that carries its activation.
    """
    return not any(True for _ in module.children()) or isinstance(
        module, (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
    )


def leaves(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """(name, leaf) of every leaf below `model`, shared leaves under each of their names."""
    if prefix and is_leaf(model):
        yield prefix, model
        return
    for name, child in model.named_children():
        yield from leaves(child, f"{prefix}.{name}" if prefix else name)


@dataclass
class _Watched:
    """What one run shows: steps, shapes of containers' outputs, leaves called, and the tensors,
    whose ids are unique while they live.
    """

    steps: list[Step] = field(default_factory=list)
    outputs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    ran: set[str] = field(default_factory=set)
    alive: list[Tensor] = field(default_factory=list)


@contextmanager
def _watch(model: nn.Module, seen: _Watched) -> Iterator[None]:
    handles = []
    names: dict[nn.Module, str] = {}
    for name, leaf in leaves(model):
        names.setdefault(leaf, name)

    def on_leaf(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        seen.ran.add(names[module])
        source = next((a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)), None)
        if source is not None and isinstance(result, Tensor):
            seen.alive.extend((source, result))
            seen.steps.append(Step(names[module], module, id(source), id(result), tuple(result.shape)))

    def on_container(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
            if isinstance(result, Tensor):
                seen.outputs[name] = tuple(result.shape)

        return hook

    for module in names:
        handles.append(module.register_forward_hook(on_leaf, with_kwargs=True))
    for name, module in model.named_modules():
        if module not in names:
            handles.append(module.register_forward_hook(on_container(name)))
    try:
        yield
    finally:
        for h in handles:
            h.remove()


def _picture_sizes(model: nn.Module) -> list[int]:
    cfg = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None) or {}
    size = cfg.get("input_size") if isinstance(cfg, dict) else getattr(cfg, "input_size", None)
    return [int(size[-1])] if size else [224, 64, 32]


def _run(model: nn.Module, channels: int) -> _Watched:
    parameter = next(model.parameters())
    failure: Exception | None = None
    modes = {m: m.training for m in model.modules()}
    model.eval()
    try:
        for size in _picture_sizes(model):
            seen = _Watched()
            picture = torch.zeros(1, channels, size, size, dtype=parameter.dtype, device=parameter.device)
            try:
                with _watch(model, seen), torch.no_grad():
                    model(picture)
                return seen
            except Exception as error:  # whatever the user's own forward raises; it is reported below
                failure = error
    finally:
        for module, mode in modes.items():
            module.training = mode
    raise InflationError(
        f"The image network does not run on a {channels}-channel picture ({type(failure).__name__}: "
        f"{failure}): pass a network that maps (B, {channels}, H, W) to logits."
    ) from failure


def _kids(steps: list[Step], prefix: str) -> list[tuple[str, list[Step]]]:
    """Children of `prefix` in execution order, each with the steps that run inside it."""
    order: dict[str, list[Step]] = {}
    for s in steps:
        if not prefix or s.name.startswith(prefix + "."):
            rest = s.name[len(prefix) + 1 :] if prefix else s.name
            child = rest.split(".")[0]
            order.setdefault(f"{prefix}.{child}" if prefix else child, []).append(s)
    return list(order.items())


def _convs(steps: list[Step]) -> int:
    return sum(isinstance(s.module, nn.Conv2d) for s in steps)


def _is_chain(steps: list[Step]) -> bool:
    return all(b.source == a.result for a, b in pairwise(steps))


def _find_stem(steps: list[Step]) -> list[str]:
    """Leaves before the first stage.

    The stem is the leading run of single layers beside the stages (or one short chain of them in a module of
    its own). Where all layers stand in one flat row, it ends before the second convolution.
    """
    prefix = ""
    while True:
        kids = _kids(steps, prefix)
        name, inner = kids[0]
        later = any(_convs(k) for _, k in kids[1:])
        if inner[0].name == name:
            break
        if later and 0 < _convs(inner) <= STEM_CONVOLUTIONS and _is_chain(inner):
            break
        prefix = name
    stem: list[Step] = []
    closed = False
    for i, (name, inner) in enumerate(kids):
        if inner[0].name != name and i != 0:
            closed = True
            break
        stem += inner
    if not closed or _convs(stem) > STEM_CONVOLUTIONS:
        second = [i for i, s in enumerate(stem) if isinstance(s.module, nn.Conv2d)][1:2]
        stem = stem[: second[0]] if second else stem
    return [s.name for s in stem]


def _find_stages(steps: list[Step], stem: list[str], head: list[str]) -> list[str]:
    """Children with convolutions of the one module that holds the whole trunk,
    but for single convolutions after it.
    """
    outside = {*stem, *head}
    trunk = [s for s in steps if s.name not in outside]
    prefix = ""
    while True:
        kids = [(n, k) for n, k in _kids(trunk, prefix) if _convs(k)]
        nested = [(n, k) for n, k in kids if k[0].name != n]
        if not nested or (len(nested) > 1 and any(_convs(k) > 1 for _, k in nested[1:])):
            return [n for n, _ in nested or kids]
        if len(nested) > 1 and len([k for _, k in _kids(nested[0][1], nested[0][0]) if _convs(k)]) < 2:
            return [n for n, _ in nested]
        prefix = nested[0][0]


def _find_head(steps: list[Step]) -> tuple[list[str], str | None]:
    """Names from the first leaf after the last feature map on, and the classifier: the last leaf with
    weights, if it is a linear map of channels."""
    # to a fixed size, for the fully connected layers that follow
    resizing = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
    spatial = [
        i
        for i, s in enumerate(steps)
        if len(s.shape) == 4 and s.shape[2] * s.shape[3] > 1 and not isinstance(s.module, resizing)
    ]
    weighted = [i for i, s in enumerate(steps) if any(True for _ in s.module.parameters(recurse=False))]
    if not spatial or not weighted:
        raise InflationError(
            "The image network has no feature map: pass a convolutional network that maps (B, 3, H, "
            "W) to logits."
        )
    last = weighted[-1]
    module = steps[last].module
    fully_connected = isinstance(module, nn.Linear) and len(steps[last].shape) == 2
    linear = fully_connected or (isinstance(module, nn.Conv2d) and tuple(module.kernel_size) == (1, 1))
    start = min(spatial[-1] + 1, last) if linear else spatial[-1] + 1
    return [s.name for s in steps[start:]], steps[last].name if linear else None


def _find_shortcuts(steps: list[Step], containers: dict[str, tuple[int, ...]]) -> list[str]:
    """1x1 convolutions that share their input with another convolution and already have their block's output
    shape.
    """
    found = []
    convs = [s for s in steps if isinstance(s.module, nn.Conv2d)]
    for i, s in enumerate(convs):
        if tuple(s.module.kernel_size) != (1, 1):  # type: ignore
            continue
        for other in convs[:i] + convs[i + 1 :]:
            if other.source != s.source:
                continue
            a, b = s.name.split("."), other.name.split(".")
            common = 0
            while common < min(len(a), len(b)) and a[common] == b[common]:
                common += 1
            block = ".".join(a[:common])
            if containers.get(block) == s.shape and other.shape != s.shape:
                found.append(s.name)
                break
            if containers.get(block) == s.shape and tuple(other.module.kernel_size) != (1, 1):  # type: ignore
                found.append(s.name)
                break
    return found


def structure_of(model: nn.Module) -> Structure:
    """Watch `model` on one picture and say what its parts are.
    Raises InflationError where it is no convolutional image network.
    """
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    if not convs:
        raise InflationError(
            f"{type(model).__name__} has no Conv2d: inflation needs a 2D convolutional network (any of "
            "timm's or torchvision's)."
        )
    seen = _run(model, convs[0].in_channels)
    steps = seen.steps
    if not any(isinstance(s.module, nn.Conv2d) for s in steps):
        raise InflationError(
            f"{type(model).__name__} ran no Conv2d on a picture: inflation needs a 2D convolutional network."
        )
    first = next(i for i, s in enumerate(steps) if isinstance(s.module, nn.Conv2d))
    steps = steps[first:] if first and not any(True for _ in steps[0].module.parameters()) else steps
    head, classifier = _find_head(steps)
    stem = _find_stem(steps)
    stages = _find_stages(steps, stem, head)
    return Structure(
        steps,
        stem,
        stages,
        head,
        classifier,
        _find_shortcuts(steps, seen.outputs),
        seen.outputs,
        frozenset(seen.ran),
    )
