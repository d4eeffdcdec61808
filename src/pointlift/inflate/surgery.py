"""Swap the leaves of an image network for their voxel counterparts. The network's own `forward` stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pointlift.inflate.report import InflationError, InflationReport, TensorFate
from pointlift.inflate.rules import inflate_kernel
from pointlift.inflate.transform import TransformedConv3d
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
    nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Sigmoid, nn.Tanh, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU,
    nn.Mish, nn.Softplus, nn.PReLU, nn.Identity, nn.Dropout, nn.AlphaDropout, nn.Linear, nn.Flatten, nn.LayerNorm,
)  # fmt: skip


def set_module(root: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` at the dotted `name` below `root`."""
    parent, _, leaf = name.rpartition(".")
    setattr(root.get_submodule(parent) if parent else root, leaf, module)


def _one_number(value: int | tuple[int, ...], what: str, name: str) -> int:
    numbers = {value} if isinstance(value, int) else set(value)
    if len(numbers) != 1:
        raise InflationError(f"{name} has {what} {tuple(value)}, but only square ones have a cube: replace the module or choose another network.")  # type: ignore[arg-type]
    return int(numbers.pop())


def _copy(target: nn.Module, source: nn.Module) -> None:
    """Parameters and buffers of the same name, verbatim."""
    values = dict(source.named_parameters(recurse=False)) | dict(source.named_buffers(recurse=False))
    with torch.no_grad():
        for key, tensor in (dict(target.named_parameters(recurse=False)) | dict(target.named_buffers(recurse=False))).items():
            tensor.copy_(values[key])


@dataclass
class Swapper:
    """Makes the voxel counterpart of one leaf and records what became of its tensors.

    matrix: kernel size -> T (K*K, K**3). note: the rule in words. learned: None, or the transform parameter of a kernel size (shared
    or fresh). loaded: whether a leaf's image weights are taken over. shortcuts: 1x1 convolutions to be given kernel 2.
    """

    report: InflationReport
    matrix: Callable[[int, str], Tensor]
    note: str
    learned: Callable[[int], nn.Parameter] | None
    loaded: Callable[[str], bool]
    shortcuts: frozenset[str] = frozenset()

    def swap(self, name: str, leaf: nn.Module) -> nn.Module:
        """The counterpart of `leaf`; raises InflationError, naming it, where there is none."""
        new = self._counterpart(name, leaf)
        if new is leaf and not self.loaded(name) and hasattr(leaf, "reset_parameters"):
            leaf.reset_parameters()
        self._record(name, leaf, new)
        return new

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
            return SparseAvgPool3d(_one_number(leaf.kernel_size, "kernel", name), _one_number(leaf.stride, "stride", name))
        if isinstance(leaf, (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)):
            if leaf.output_size not in (1, (1, 1)):
                raise InflationError(f"{name} pools to {leaf.output_size}, which has no meaning on voxels: only to one value per cloud.")
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
            f"{name} is a {kind}, which has weights and no counterpart on voxels: replace it in the image network before inflating, "
            "or choose a network of convolutions, normalisations and pooling."
        )

    def _conv(self, name: str, leaf: nn.Conv2d) -> nn.Module:
        if type(leaf).forward is not nn.Conv2d.forward and type(leaf).__name__ != "Conv2dSame":
            raise InflationError(
                f"{name} is a {type(leaf).__name__}, which changes its weight as it runs: fold that into a plain Conv2d before inflating."
            )
        k, s = _one_number(leaf.kernel_size, "kernel", name), _one_number(leaf.stride, "stride", name)
        d = _one_number(leaf.dilation, "dilation", name)
        if k > 7:
            raise InflationError(f"{name} has a kernel of {k} x {k}, but the sparse engine goes up to 7: choose another network.")
        wide = name in self.shortcuts
        k3 = 2 if wide else k
        bias = leaf.bias is not None
        weight = leaf.weight.detach()
        if self.learned is not None and k > 1 and self.loaded(name):
            new: SparseConv3d = TransformedConv3d(weight, self.learned(k), k3, s, d, leaf.groups, bias)
        else:
            new = SparseConv3d(leaf.in_channels, leaf.out_channels, k3, s, d, leaf.groups, bias)
            if self.loaded(name):
                matrix = torch.ones(1, 8) if wide else self.matrix(k, name)
                with torch.no_grad():
                    new.weight.copy_(inflate_kernel(weight, matrix.to(weight.device)))
            else:
                new.reset_parameters()
        if bias and self.loaded(name):
            with torch.no_grad():
                new.bias.copy_(leaf.bias)  # type: ignore
        frozen = not leaf.weight.requires_grad
        new.to(weight.device)
        if frozen and not isinstance(new, TransformedConv3d):
            new.weight.requires_grad_(False)
        return new

    def _transposed(self, name: str, leaf: nn.ConvTranspose2d) -> nn.Module:
        k, s = _one_number(leaf.kernel_size, "kernel", name), _one_number(leaf.stride, "stride", name)
        if leaf.groups != 1 or k > 7:
            raise InflationError(f"{name} is a grouped or very large ConvTranspose2d, which has no counterpart: replace it by Upsample and Conv2d.")
        new = SparseConv3d(leaf.in_channels, leaf.out_channels, k, s, bias=leaf.bias is not None, transposed=True)
        if self.loaded(name):
            with torch.no_grad():
                new.weight.copy_(inflate_kernel(leaf.weight.detach().transpose(0, 1), self.matrix(k, name)))
                if leaf.bias is not None:
                    new.bias.copy_(leaf.bias)  # type: ignore
        return new.to(leaf.weight.device)

    def _batch_norm(self, name: str, leaf: nn.BatchNorm2d | nn.SyncBatchNorm) -> nn.Module:
        fused = type(leaf).forward not in (nn.BatchNorm2d.forward, nn.SyncBatchNorm.forward)
        if fused and not (hasattr(leaf, "drop") and hasattr(leaf, "act")):
            raise InflationError(f"{name} is a {type(leaf).__name__}, a batch normalisation of its own kind: replace it by BatchNorm2d before inflating.")
        new = SparseBatchNorm(leaf.num_features, leaf.eps, leaf.momentum, leaf.affine, leaf.track_running_stats)
        if self.loaded(name):
            _copy(new, leaf)
        if leaf.weight is not None:
            new.to(leaf.weight.device)
        return SparseBatchNormAct(new, leaf.drop, leaf.act) if fused else new  # type: ignore

    def _group_norm(self, name: str, leaf: nn.GroupNorm) -> nn.Module:
        if type(leaf).forward is not nn.GroupNorm.forward:
            raise InflationError(f"{name} is a {type(leaf).__name__}, a group normalisation of its own kind: replace it by GroupNorm before inflating.")
        new = SparseGroupNorm(leaf.num_groups, leaf.num_channels, leaf.eps, leaf.affine)
        if self.loaded(name):
            _copy(new, leaf)
        return new

    def _upsample(self, name: str, leaf: nn.Upsample) -> nn.Module:
        factor = leaf.scale_factor
        if leaf.mode != "nearest" or factor is None:
            raise InflationError(f"{name} upsamples by {leaf.mode} interpolation, but only nearest with a scale factor has a counterpart on voxels.")
        factors = set(factor) if isinstance(factor, tuple) else {factor}
        if len(factors) != 1 or float(next(iter(factors))) != int(next(iter(factors))):
            raise InflationError(f"{name} upsamples by {factor}, but only whole equal factors have a counterpart on voxels.")
        return SparseUpsample(int(next(iter(factors))))

    def _record(self, name: str, leaf: nn.Module, new: nn.Module) -> None:
        before = dict(leaf.state_dict(keep_vars=False))
        after = dict(new.state_dict(keep_vars=False))
        for key, tensor in before.items():
            target = next((k for k in (key, f"norm.{key}", "image_weight" if key == "weight" else key) if k in after), None)
            shape_3d = None if target is None else tuple(after[target].shape)
            conv = isinstance(leaf, (nn.Conv2d, nn.ConvTranspose2d)) and key == "weight"
            if not self.loaded(name):
                fate, note = "re-initialised", "stage not loaded"
            elif conv and isinstance(new, TransformedConv3d):
                fate, note = "inflated", self.note
            elif conv and getattr(new, "kernel_size", 1) > 1:
                fate, note = "inflated", "1x1 repeated 8 times (released code)" if name in self.shortcuts else self.note
            else:
                fate, note = "copied", "1x1 convolution" if conv else ""
            full = f"{name}.{key}"
            self.report.rows.append(TensorFate(full, fate, tuple(tensor.shape), shape_3d, f"backbone.{name}.{target}", note))
