"""Swap the leaves of an image network for their voxel counterparts.
The network's own `forward` stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pointlift.inflation.report import InflationError, InflationReport, TensorFate
from pointlift.inflation.rules import inflate_kernel
from pointlift.inflation.transform import TransformedConv3d
from pointlift.nn import (
    SparseAvgPool3d,
    SparseBatchNorm,
    SparseBatchNormAct,
    SparseChannelDropout,
    SparseConv3d,
    SparseDropPath,
    SparseGlobalPool,
    SparseGroupNorm,
    SparseMaxPool3d,
    SparseUpsample,
)

__all__ = ["Swapper", "set_module"]

# modules that act on features as they are, through __torch_function__
_KEPT = (
    nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Sigmoid, nn.Tanh, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh,
    nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.Mish, nn.Softplus, nn.PReLU, nn.Identity, nn.Dropout,
    nn.AlphaDropout, nn.Linear, nn.Flatten, nn.LayerNorm,
)  # fmt: skip


def set_module(root: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` at the dotted `name` below `root`."""
    parent, _, leaf = name.rpartition(".")
    setattr(root.get_submodule(parent) if parent else root, leaf, module)


def _one_number(value: int | tuple[int, ...], what: str, name: str) -> int:
    numbers = {value} if isinstance(value, int) else set(value)
    if len(numbers) != 1:
        raise InflationError(
            f"{name} has {what} {value}, but only square ones have a cube: "
            "replace the module or choose another network."
        )
    return int(numbers.pop())


def _copy(target: nn.Module, source: nn.Module) -> None:
    """Parameters and buffers of the same name, verbatim."""
    values = dict(source.named_parameters(recurse=False)) | dict(source.named_buffers(recurse=False))
    with torch.no_grad():
        for key, tensor in (
            dict(target.named_parameters(recurse=False)) | dict(target.named_buffers(recurse=False))
        ).items():
            tensor.copy_(values[key])


def _is_constant(leaf: nn.Module) -> bool:
    """Whether the image network itself never trained `leaf`, a fixed filter or a constant shortcut:
    such weights stay what they are.
    """
    own = list(leaf.parameters(recurse=False))
    return bool(own) and not any(p.requires_grad for p in own)


def _is_shifted(leaf: nn.Module) -> bool:
    """Whether the windows of a convolution or pooling lie elsewhere than on voxels, where odd ones are
    centred and even ones begin at their output."""
    if type(leaf).__name__.endswith("Same"):  # pads to the right first where it strides, as TensorFlow does
        return bool(_first(leaf.stride) > 1 and _first(leaf.kernel_size) > 1 and _first(leaf.kernel_size) % 2)  # type: ignore[arg-type]
    k, d = _first(leaf.kernel_size), _first(getattr(leaf, "dilation", 1))  # type: ignore[arg-type]
    reach = d * (k - 1)
    begins = reach // 2 if leaf.padding == "same" else 0 if leaf.padding == "valid" else _first(leaf.padding)  # type: ignore[arg-type]
    return begins != (reach // 2 if k % 2 else 0)


def _first(value: int | tuple[int, ...]) -> int:
    return value if isinstance(value, int) else value[0]


@dataclass
class Swapper:
    """Makes the voxel counterpart of one leaf and records what became of its tensors.

    matrix: kernel size -> T (K*K, K**3). note: the rule in words. learned: None, or the transform parameter
    of a kernel size (shared or fresh). in_loaded_stage: whether the leaf of a name keeps its image weights.
    shortcuts: 1x1 convolutions to be given kernel 2.
    shifted, bordered, averaged: convolutions and poolings whose windows are placed, whose borders are filled,
    and whose mean is taken, otherwise than in the image network.
    """

    report: InflationReport
    matrix: Callable[[int, str], Tensor]
    note: str
    learned: Callable[[int], nn.Parameter] | None
    in_loaded_stage: Callable[[str], bool]
    shortcuts: frozenset[str] = frozenset()
    shifted: list[str] = field(default_factory=list)
    bordered: list[str] = field(default_factory=list)
    averaged: list[str] = field(default_factory=list)

    def swap(self, name: str, leaf: nn.Module) -> nn.Module:
        """The counterpart of `leaf`; raises InflationError, naming it, where there is none."""
        before = {k: tuple(v.shape) for k, v in leaf.state_dict().items()}
        new = self._counterpart(name, leaf)
        reset = getattr(leaf, "reset_parameters", None)
        if new is leaf and callable(reset) and not self.loaded(name, leaf):
            reset()
        if new is not leaf and _is_constant(leaf):
            new.requires_grad_(False)
        if isinstance(leaf, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)) and _is_shifted(leaf):
            self.shifted.append(name)
        if isinstance(leaf, nn.Conv2d) and leaf.padding_mode != "zeros":
            self.bordered.append(name)
        if isinstance(leaf, nn.AvgPool2d) and leaf.count_include_pad and _first(leaf.padding) > 0:
            self.averaged.append(name)
        self._record(name, leaf, new, before)
        return new

    def loaded(self, name: str, leaf: nn.Module) -> bool:
        """Whether the image weights of `leaf` are taken over."""
        return self.in_loaded_stage(name) or _is_constant(leaf)

    def remarks(self) -> list[str]:
        """What the report says about windows and borders."""
        said = []
        for names, text in (
            (
                self.shifted,
                "windows are placed by up to half a kernel elsewhere than in the image network (odd kernels "
                "are centred on voxels)",
            ),
            (
                self.bordered,
                "convolutions fill the picture's border in their own way; "
                "on voxels an absent neighbour is zero",
            ),
            (
                self.averaged,
                "poolings count the zeros around the picture; "
                "on voxels they average over the occupied ones alone",
            ),
        ):
            if names:
                said.append(f"{len(names)} {text}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}")
        return said

    def _counterpart(self, name: str, leaf: nn.Module) -> nn.Module:
        kind = type(leaf).__name__
        if isinstance(leaf, nn.Conv2d):
            return self._conv(name, leaf)
        if isinstance(leaf, nn.ConvTranspose2d):
            return self._transposed(name, leaf)
        if isinstance(leaf, (nn.BatchNorm2d, nn.SyncBatchNorm)):
            return self._batch_norm(name, leaf)
        if isinstance(leaf, nn.GroupNorm):
            return self._group_norm(name, leaf)
        if isinstance(leaf, nn.MaxPool2d):
            k, s = _one_number(leaf.kernel_size, "kernel", name), _one_number(leaf.stride, "stride", name)
            return SparseMaxPool3d(k, s, _one_number(leaf.dilation, "dilation", name))
        if isinstance(leaf, nn.AvgPool2d):
            return SparseAvgPool3d(
                _one_number(leaf.kernel_size, "kernel", name), _one_number(leaf.stride, "stride", name)
            )
        if isinstance(leaf, (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)):
            if leaf.output_size not in (1, (1, 1)):
                raise InflationError(
                    f"{name} pools to {leaf.output_size}, which has no meaning on voxels: "
                    "only to one value per cloud."
                )
            return SparseGlobalPool("mean" if isinstance(leaf, nn.AdaptiveAvgPool2d) else "max")
        if isinstance(leaf, nn.Upsample):
            return self._upsample(name, leaf)
        if isinstance(leaf, nn.Dropout2d):
            return SparseChannelDropout(leaf.p)
        if kind in ("DropPath", "StochasticDepth"):
            return SparseDropPath(float(getattr(leaf, "drop_prob", None) or getattr(leaf, "p", 0.0) or 0.0))
        if isinstance(leaf, _KEPT) or not any(True for _ in leaf.state_dict()):
            return leaf  # what it calls is checked by the trial run
        raise InflationError(
            f"{name} is a {kind}, which has weights and no counterpart on voxels: replace it in the image "
            "network before inflating, or choose a network of convolutions, normalisations and pooling."
        )

    def _conv(self, name: str, leaf: nn.Conv2d) -> nn.Module:
        own_forward = type(leaf).forward is not nn.Conv2d.forward and type(leaf).__name__ != "Conv2dSame"
        if (
            own_forward
            or type(leaf)._conv_forward is not nn.Conv2d._conv_forward
            or set(leaf.state_dict()) - {"weight", "bias"}
        ):
            raise InflationError(
                f"{name} is a {type(leaf).__name__}, which changes its weight as it runs: fold that into a "
                "plain Conv2d before inflating."
            )
        k, s = _one_number(leaf.kernel_size, "kernel", name), _one_number(leaf.stride, "stride", name)
        d = _one_number(leaf.dilation, "dilation", name)
        if k > 7:
            raise InflationError(
                f"{name} has a kernel of {k} x {k}, but the sparse engine goes up to 7: "
                "choose another network."
            )
        wide = name in self.shortcuts
        k3 = 2 if wide else k
        bias = leaf.bias is not None
        weight = leaf.weight.detach()
        loaded = self.loaded(name, leaf)
        if self.learned is not None and k > 1 and loaded and not _is_constant(leaf):
            new: SparseConv3d = TransformedConv3d(weight, self.learned(k), k3, s, d, leaf.groups, bias)
        else:
            new = SparseConv3d(leaf.in_channels, leaf.out_channels, k3, s, d, leaf.groups, bias)
            if loaded:
                matrix = torch.ones(1, 8) if wide else self.matrix(k, name)
                with torch.no_grad():
                    new.weight.copy_(inflate_kernel(weight, matrix))
        if bias and loaded:
            with torch.no_grad():
                new.bias.copy_(leaf.bias)  # type: ignore
        return new

    def _transposed(self, name: str, leaf: nn.ConvTranspose2d) -> nn.Module:
        k, s = _one_number(leaf.kernel_size, "kernel", name), _one_number(leaf.stride, "stride", name)
        if leaf.groups != 1 or k > 7:
            raise InflationError(
                f"{name} is a grouped or very large ConvTranspose2d, which has no counterpart: "
                "replace it by Upsample and Conv2d."
            )
        d = _one_number(leaf.dilation, "dilation", name)
        if _first(leaf.padding) != (d * (k - 1) // 2 if k % 2 else 0):  # type: ignore[arg-type]
            self.shifted.append(name)
        new = SparseConv3d(
            leaf.in_channels, leaf.out_channels, k, s, d, bias=leaf.bias is not None, transposed=True
        )
        if self.loaded(name, leaf):
            with torch.no_grad():
                new.weight.copy_(inflate_kernel(leaf.weight.detach().transpose(0, 1), self.matrix(k, name)))
                if leaf.bias is not None:
                    new.bias.copy_(leaf.bias)  # type: ignore
        return new

    def _batch_norm(self, name: str, leaf: nn.BatchNorm2d | nn.SyncBatchNorm) -> nn.Module:
        fused = type(leaf).forward not in (nn.BatchNorm2d.forward, nn.SyncBatchNorm.forward)
        if fused and not (hasattr(leaf, "drop") and hasattr(leaf, "act")):
            raise InflationError(
                f"{name} is a {type(leaf).__name__}, a batch normalisation of its own kind: "
                "replace it by BatchNorm2d before inflating."
            )
        new = SparseBatchNorm(
            leaf.num_features, leaf.eps, leaf.momentum, leaf.affine, leaf.track_running_stats
        )
        if self.loaded(name, leaf):
            _copy(new, leaf)
        return SparseBatchNormAct(new, leaf.drop, leaf.act) if fused else new  # type: ignore

    def _group_norm(self, name: str, leaf: nn.GroupNorm) -> nn.Module:
        fused = hasattr(leaf, "drop") and hasattr(leaf, "act")
        if (
            type(leaf).forward is not nn.GroupNorm.forward
            and not fused
            and not type(leaf).__module__.startswith("timm.layers.")
        ):
            raise InflationError(
                f"{name} is a {type(leaf).__name__}, a group normalisation of its own kind: "
                "replace it by GroupNorm before inflating."
            )
        new = SparseGroupNorm(leaf.num_groups, leaf.num_channels, leaf.eps, leaf.affine)
        if self.loaded(name, leaf):
            _copy(new, leaf)
        return SparseBatchNormAct(new, leaf.drop, leaf.act) if fused else new  # type: ignore

    def _upsample(self, name: str, leaf: nn.Upsample) -> nn.Module:
        factor = leaf.scale_factor
        if leaf.mode != "nearest" or factor is None:
            raise InflationError(
                f"{name} upsamples by {leaf.mode} interpolation, "
                "but only nearest with a scale factor has a counterpart on voxels."
            )
        factors = set(factor) if isinstance(factor, tuple) else {factor}
        if len(factors) != 1 or float(next(iter(factors))) != int(next(iter(factors))):
            raise InflationError(
                f"{name} upsamples by {factor}, but only whole equal factors have a counterpart on voxels."
            )
        return SparseUpsample(int(next(iter(factors))))

    def _record(self, name: str, leaf: nn.Module, new: nn.Module, before: dict[str, tuple[int, ...]]) -> None:
        after = dict(new.state_dict(keep_vars=False))
        for key, shape_2d in before.items():
            target = next(k for k in (key, f"norm.{key}", "image_weight") if k in after)
            shape_3d = tuple(after[target].shape)
            conv = isinstance(leaf, (nn.Conv2d, nn.ConvTranspose2d)) and key == "weight"
            if not self.loaded(name, leaf):
                fate, note = "re-initialised", "stage not loaded"
            elif conv and isinstance(new, TransformedConv3d):
                fate, note = "inflated", self.note
            elif conv and getattr(new, "kernel_size", 1) > 1:
                fate, note = (
                    "inflated",
                    "1x1 repeated 8 times (released code)" if name in self.shortcuts else self.note,
                )
            else:
                fate, note = "copied", "1x1 convolution" if conv else ""
            self.report.rows.append(
                TensorFate(f"{name}.{key}", fate, shape_2d, shape_3d, f"backbone.{name}.{target}", note)
            )
