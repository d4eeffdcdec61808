"""Image2Point, section 3: turn a trained image network into a point-cloud network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pointlift.inflation.network import HEADS, STEMS, InflatedNetwork, make_head, make_stem
from pointlift.inflation.report import InflationError, InflationReport, TensorFate
from pointlift.inflation.rules import RELEASED, rule_matrix
from pointlift.inflation.surgery import Swapper, set_module
from pointlift.inflation.trace import Structure, leaves, structure_of
from pointlift.inflation.transform import first_transform, shuffle
from pointlift.inflation.trial import map_modules, trial
from pointlift.nn import SparseGlobalPool

__all__ = ["inflate"]


def inflate(
    image_model: nn.Module,
    rule: str | Tensor | Sequence[Sequence[float]] = "repeat",
    axis: str = "z",
    in_channels: int = 3,
    num_classes: int = 40,
    stem: str = "linear",
    head: str = "linear-bn",
    shortcut_kernel: int = 1,
    load_stages: Sequence[int] | None = None,
    start: str = "default",
    seed: int = 0,
    voxel_size: float = 0.05,
) -> InflatedNetwork:
    """A sparse 3D network with the weights and the forward of `image_model`, which itself is not changed.

    rule: how a K x K kernel becomes K x K x K (`pointlift.inflation.rules`): "repeat" along `axis` (both
    papers), "mean", "center", "T1", "T2", "T3", "released-x-axis", "released-y-axis", "released-z-axis" (the
    released code's options, which fix the axis themselves), any matrix T (K*K, K**3), or "learned" /
    "learned-shared" (v1: T per layer or per network is trained, 2D weights stay frozen) with start "default"
    (T = repeat) or "random". 1x1 convolutions are copied.
    stem: "linear" (v2: one k3 convolution + BN in place of the image stem),
    "three-conv" (v1) or "inflate" (keep the image stem).
    head: "linear", "linear-bn" (v2's listing) or "mlp" (v1).
    num_classes: 0 leaves the classifier out, so that the network gives embeddings. shortcut_kernel:
    1, or 2 for the released code's shortcuts.
    load_stages: numbers (from 1) of the stages that keep image weights,
    the others are drawn anew (v2 table 9); None: all.
    seed: for everything that is drawn. voxel_size: edge of the voxels that the network makes of clouds,
    in their units.

    Weights are float32 whatever the image network's dtype. What the image network itself never trained
    (`requires_grad` False: a fixed filter, a constant shortcut) stays frozen, unless all of it is frozen. The
    network comes back in training mode, on the image network's device.

    Raises InflationError naming the module and the remedy for what has no counterpart on voxels,
    ValueError for unknown options.
    """
    if not isinstance(rule, (str, Tensor)):
        rule = torch.as_tensor(rule)
    _check_options(rule, axis, stem, head, shortcut_kernel, start)
    _check_numbers(in_channels, num_classes, seed)
    structure = structure_of(image_model)
    _check_structure(structure, stem, load_stages)
    backbone = _copy_of(image_model)
    report = InflationReport()
    # one stream each, so that networks of different rules begin with the same input and output layers
    seeds = torch.randint(2**62, (3,), generator=torch.Generator().manual_seed(seed)).tolist()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds[0])
        swapper = _swapper(structure, report, rule, axis, shortcut_kernel, load_stages, start)
        channels = _swap_all(backbone, structure, swapper, stem, in_channels)
        torch.manual_seed(seeds[1])
        new_stem = make_stem(stem, in_channels, channels)
        arguments: dict[str, Any] = {
            "rule": rule if isinstance(rule, str) else rule.tolist(), "axis": axis,
            "in_channels": in_channels, "num_classes": num_classes, "stem": stem, "head": head,
            "shortcut_kernel": shortcut_kernel,
            "load_stages": None if load_stages is None else list(load_stages), "start": start, "seed": seed,
        }  # fmt: skip
        inputs = structure.stem if stem == "inflate" else []
        net = InflatedNetwork(new_stem, backbone, nn.Identity(), report, arguments, inputs)
        width = trial(net, in_channels, map_modules(image_model, structure))
        torch.manual_seed(seeds[2])
        net.head = make_head(head, width, max(num_classes, 1))
        if num_classes == 0:
            net.reset_classifier(0)
        _complete(report, image_model, net, swapper)
    report.notes += swapper.remarks()
    net.voxel_size = voxel_size
    return net.to(next(image_model.parameters()).device)


def _copy_of(image_model: nn.Module) -> nn.Module:
    """A float32 copy on the CPU, where every part of the new network is made and tried before it moves to its
    device.
    """
    try:
        backbone = copy.deepcopy(image_model).to("cpu", torch.float32)
    except (RuntimeError, TypeError) as error:
        raise InflationError(
            f"The image network cannot be copied ({error}): "
            "remove reparametrisations and hooks from it first."
        ) from error
    if not any(p.requires_grad for p in backbone.parameters()):
        # a whole network is frozen to be used as it is, not because its weights are constants
        backbone.requires_grad_(True)
    return backbone


def _complete(
    report: InflationReport, image_model: nn.Module, net: InflatedNetwork, swapper: Swapper
) -> None:
    """Rows for what belongs to no swapped leaf: second names of shared modules, parameters of blocks,
    and everything that is new.
    """
    state = net.state_dict(keep_vars=True)
    image = image_model.state_dict(keep_vars=True)
    told = {r.name: r for r in report.rows}
    first = {id(image[name]): row for name, row in reversed(told.items())}
    for name, tensor in image.items():
        if name in told:
            continue
        target, shape = f"backbone.{name}", tuple(tensor.shape)
        if id(tensor) in first:
            row = first[id(tensor)]
            parent = row.name.rpartition(".")[0]
            inner = row.target.removeprefix(f"backbone.{parent}.")
            target = f"backbone.{name.rpartition('.')[0]}.{inner}" if row.target else ""
            report.rows.append(replace(row, name=name, target=target, note=f"shared with {row.name}"))
        elif target not in state:
            report.rows.append(TensorFate(name, "dropped", shape, None, "", "image head"))
        elif swapper.in_loaded_stage(name) or not state[target].requires_grad:
            report.rows.append(TensorFate(name, "copied", shape, shape, target, "of a block"))
        else:
            shuffle(state[target])
            report.rows.append(
                TensorFate(name, "re-initialised", shape, shape, target, "stage not loaded, values shuffled")
            )
    report.rows[:] = [
        replace(r, shape_3d=tuple(state[r.target].shape)) if r.target else r for r in report.rows
    ]
    filled = {r.target for r in report.rows}
    for name, tensor in state.items():
        if name not in filled:
            note = "learned T" if name.startswith("backbone.") else "new layer"
            report.rows.append(TensorFate(name, "re-initialised", None, tuple(tensor.shape), name, note))


def _check_options(
    rule: str | Tensor, axis: str, stem: str, head: str, shortcut_kernel: int, start: str
) -> None:
    rule_matrix(rule if isinstance(rule, str) else "repeat", axis, 3)  # raises for unknown names
    if isinstance(rule, str) and rule in RELEASED and axis != "z":
        raise ValueError(
            f"axis is {axis!r}, but rule {rule} copies along {RELEASED[rule]} whatever the axis: "
            "leave axis at its default 'z', or use rule='repeat' along an axis of your choice."
        )
    if isinstance(rule, Tensor) and rule.ndim != 2:
        raise ValueError(f"A matrix rule must have shape (K*K, K**3), got {tuple(rule.shape)}.")
    for name, value, known in (
        ("stem", stem, STEMS),
        ("head", head, HEADS),
        ("start", start, ("default", "random")),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}.")
    if shortcut_kernel not in (1, 2):
        raise ValueError(f"shortcut_kernel must be 1 (paper) or 2 (released code), got {shortcut_kernel!r}.")
    if start == "random" and not (isinstance(rule, str) and rule.startswith("learned")):
        raise ValueError("start='random' is for the learned rules, whose T it draws.")


def _check_numbers(in_channels: int, num_classes: int, seed: int) -> None:
    if in_channels < 1 or num_classes < 0:
        raise ValueError(
            "in_channels must be at least 1 and num_classes 0 (no classifier) or more, "
            f"got {in_channels} and {num_classes}."
        )
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed must be from 0 to 2**63 - 1, got {seed}.")


def _check_structure(structure: Structure, stem: str, load_stages: Sequence[int] | None) -> None:
    """Raises ValueError for stages that the network does not have,
    InflationError for a stem that one layer cannot stand in for.
    """
    wrong = [s for s in load_stages or () if not 1 <= s <= len(structure.stages)]
    if wrong:
        raise ValueError(
            f"load_stages names stage {wrong[0]}, but this network has stages 1 to {len(structure.stages)} "
            f"({', '.join(structure.stages)})."
        )
    if stem != "inflate" and structure.branching_stem is not None:
        raise InflationError(
            f"{structure.first_conv} and {structure.branching_stem} both look at the picture, "
            "so there is no single input layer to replace: use stem='inflate'."
        )


def _swapper(
    structure: Structure,
    report: InflationReport,
    rule: str | Tensor,
    axis: str,
    shortcut_kernel: int,
    stages: Sequence[int] | None,
    start: str,
) -> Swapper:
    shared: dict[int, nn.Parameter] = {}

    def matrix(k: int, name: str) -> Tensor:
        if isinstance(rule, str):
            return rule_matrix(rule, axis, k)
        if k == 1:
            return torch.ones(1, 1)
        if tuple(rule.shape) != (k * k, k**3):
            raise InflationError(
                f"{name} has a kernel of {k} x {k}, which needs T of shape {(k * k, k**3)}, "
                f"got {tuple(rule.shape)}: use a named rule."
            )
        return rule.float()

    def transform(k: int) -> nn.Parameter:
        if rule == "learned-shared" and k in shared:
            return shared[k]
        shared[k] = nn.Parameter(first_transform(k, axis, start))
        return shared[k]

    left_out = [] if stages is None else [s for i, s in enumerate(structure.stages, 1) if i not in stages]

    def loaded(name: str) -> bool:
        return not any(name.startswith(s + ".") or name == s for s in left_out)

    learned: Callable[[int], nn.Parameter] | None = (
        transform if rule in ("learned", "learned-shared") else None
    )
    return Swapper(
        report,
        matrix,
        _rule_in_words(rule, axis, start),
        learned,
        loaded,
        frozenset(structure.shortcuts if shortcut_kernel == 2 else ()),
    )


def _rule_in_words(rule: str | Tensor, axis: str, start: str) -> str:
    """What the report says beside an inflated kernel."""
    if isinstance(rule, Tensor):
        return "given matrix T"
    if rule.startswith("learned"):
        return f"{rule} T, {start} start"
    if rule in RELEASED:
        return f"{rule}, copies along {RELEASED[rule]}"
    return f"{rule} along {axis}" if rule in ("repeat", "mean", "center") else rule


def _swap_all(
    backbone: nn.Module, structure: Structure, swapper: Swapper, stem: str, in_channels: int
) -> int:
    """Swap every leaf of `backbone` in place; returns the channels that the stem has to deliver."""
    last_conv = next(
        (
            s.module
            for s in reversed(structure.steps)
            if s.name in structure.stem and isinstance(s.module, nn.Conv2d)
        ),
        None,
    )
    if last_conv is None and stem != "inflate":
        raise InflationError(
            f"No convolution stands before {structure.stages[0]}, so there is no input layer to replace: use "
            "stem='inflate'."
        )
    dropped = _dropped_head(structure)
    found = list(leaves(backbone))
    first_name: dict[nn.Module, str] = {}
    for name, leaf in found:
        first_name.setdefault(leaf, name)
    made: dict[nn.Module, nn.Module] = {}
    for name, leaf in found:
        if leaf in made:
            set_module(backbone, name, made[leaf])
        elif first_name[leaf] in structure.stem and stem != "inflate":
            made[leaf] = _drop(swapper.report, name, leaf, "image stem")
        elif first_name[leaf] in dropped:
            pools = isinstance(leaf, (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d))
            made[leaf] = (
                SparseGlobalPool("mean") if pools else _drop(swapper.report, name, leaf, "image head")
            )
        elif first_name[leaf] not in structure.ran:
            made[leaf] = (
                _drop(swapper.report, name, leaf, "did not run on a picture") if leaf.state_dict() else leaf
            )
        else:
            made[leaf] = swapper.swap(name, leaf)
        set_module(backbone, name, made[leaf])
    if stem == "inflate":
        _adapt_input(backbone, structure.first_conv, in_channels, swapper.report)
    _flatten_dropped(backbone, dropped)
    return 0 if last_conv is None else last_conv.out_channels


def _drop(report: InflationReport, name: str, leaf: nn.Module, note: str) -> nn.Module:
    for key, tensor in leaf.state_dict().items():
        report.rows.append(TensorFate(f"{name}.{key}", "dropped", tuple(tensor.shape), None, "", note))
    return nn.Identity()


def _dropped_head(structure: Structure) -> set[str]:
    """Leaves of the image head that make room for the paper's:
    the classifier, what follows it, and what needs a map of fixed size.
    """
    by_name = {s.name: s for s in structure.steps}
    first = next(
        (i for i, s in enumerate(structure.steps) if structure.head and s.name == structure.head[0]),
        len(structure.steps),
    )
    width = structure.steps[first - 1].shape[1] if first else 0
    dropped: set[str] = set()
    broken = False
    for name in structure.head:
        module = by_name[name].module
        if isinstance(module, (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)) and module.output_size not in (
            1,
            (1, 1),
        ):
            dropped.add(name)
        fixed_size = isinstance(module, nn.Linear) and module.in_features != width
        fixed_size |= isinstance(module, nn.Conv2d) and tuple(module.kernel_size) != (1, 1)
        broken |= name == structure.classifier or fixed_size
        if broken and not isinstance(module, (nn.Flatten, nn.AdaptiveAvgPool2d)):
            dropped.add(name)
        elif isinstance(module, (nn.Linear, nn.Conv2d)):
            width = by_name[name].shape[1]
    return dropped


def _flatten_dropped(backbone: nn.Module, dropped: set[str]) -> None:
    """A container of which everything with weights was dropped goes as a whole:
    its forward may ask for image sizes.
    """
    parents = {n.rpartition(".")[0] for n in dropped}
    for parent in sorted(parents - {""}, key=len):
        inner = [n for n, _ in leaves(backbone) if n.startswith(parent + ".")]
        if inner and all(n in dropped for n in inner):
            set_module(backbone, parent, nn.Identity())


def _adapt_input(backbone: nn.Module, name: str, in_channels: int, report: InflationReport) -> None:
    """Give the first convolution `in_channels` inputs: image channels are summed and shared out, so that a
    grey input keeps its response."""
    conv = backbone.get_submodule(name)
    have = int(conv.in_channels)  # type: ignore
    if have == in_channels:
        return
    tensor = getattr(conv, "weight", None)
    if tensor is None or int(conv.groups) != 1:  # type: ignore
        raise InflationError(
            f"{name} cannot be adapted from {have} to {in_channels} input channels: use stem='linear'."
        )
    conv.weight = nn.Parameter(tensor.detach().sum(1, keepdim=True).expand(-1, in_channels, -1) / in_channels)
    conv.in_channels = in_channels  # type: ignore
    report.notes.append(f"{name}: {have} input channels averaged into {in_channels}")
