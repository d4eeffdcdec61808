"""How torch functions act on a SparseTensor.

An image network sees activations (B, C, H, W). A SparseTensor stands in for one: dimension 1 is the channels,
the spatial dimensions are the occupied voxels. What acts on every pixel acts on the features (M, C); what
averages over the image averages over each cloud; what cannot be said about voxels is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pointlift.core.grid import CLOUD, Level, pool_clouds

if TYPE_CHECKING:
    from pointlift.core.sparse_tensor import SparseTensor

__all__ = ["SparseArithmetic", "UnsupportedOnVoxels", "pool_clouds"]


class UnsupportedOnVoxels(TypeError):  # noqa: N818 - reads as a statement where it is raised
    """A torch function that has no meaning on a SparseTensor."""


def _per_voxel(x: SparseTensor, other: Any) -> Any:
    """`other` of a binary operation, as something that broadcasts against x.features (M, C)."""
    if isinstance(other, SparseArithmetic):
        sparse: SparseTensor = other  # type: ignore[assignment]
        if sparse.level.stride == 0 and x.level.stride != 0:
            return sparse.features[x.batch]
        same = sparse.maps is x.maps and sparse.level == x.level
        if not same and (sparse.coords.shape != x.coords.shape or not torch.equal(sparse.coords, x.coords)):
            raise ValueError(
                "Two SparseTensors can only be combined on the same voxels, "
                f"got {sparse.coords.shape[0]} voxels of stride {sparse.stride} and {x.coords.shape[0]} of "
                f"stride {x.stride}: derive both from one voxelization, at one stride."
            )
        return sparse.features
    if isinstance(other, Tensor) and other.ndim == 4:
        if other.shape[2:] == (1, 1):
            other = other[:, :, 0, 0]
        elif other.shape[:3] == (1, 1, 1):
            other = other[0, 0]
        else:
            raise UnsupportedOnVoxels(
                f"A tensor of shape {tuple(other.shape)} has no place on voxels: only (1 or B, C, 1, "
                "1) broadcasts."
            )
        if other.shape[0] == x.batch_size != 1:
            other = other[x.batch]
        elif other.shape[0] != 1:
            raise ValueError(
                f"A tensor of {other.shape[0]} rows meets a SparseTensor of {x.batch_size} clouds: "
                "give one row per cloud, or one for all."
            )
    elif isinstance(other, Tensor) and other.ndim == 3 and other.shape[1:] == (1, 1):
        other = other.reshape(1, -1)
    return other


def _binary(func: Callable[..., Tensor]) -> Callable[..., SparseTensor]:
    def apply(a: Any, b: Any, *args: Any, **kwargs: Any) -> SparseTensor:
        if isinstance(a, SparseArithmetic) and not (
            isinstance(b, SparseArithmetic) and a.level.stride == 0 and b.level.stride != 0
        ):
            return a.with_features(func(a.features, _per_voxel(a, b), *args, **kwargs))  # type: ignore
        return b.with_features(func(_per_voxel(b, a), b.features, *args, **kwargs))

    return apply


def _features(func: Callable[..., Tensor]) -> Callable[..., SparseTensor]:
    def apply(x: SparseTensor, *args: Any, **kwargs: Any) -> SparseTensor:
        return x.with_features(func(x.features, *args, **kwargs))

    return apply


def _unchanged(x: SparseTensor, *args: Any, **kwargs: Any) -> SparseTensor:
    return x


def _check_channel_dim(dim: int, name: str) -> None:
    if dim not in (1, -1, -3):  # -1 of channels-last code, -3 of (B, C, H, W)
        raise UnsupportedOnVoxels(
            f"{name} on a SparseTensor works along the channels (dim 1), got dim {dim}."
        )


def _cat(tensors: Sequence[SparseTensor], dim: int = 0, **kwargs: Any) -> SparseTensor:
    _check_channel_dim(kwargs.get("axis", dim), "cat")
    first = tensors[0]
    return first.with_features(torch.cat([_per_voxel(first, t) for t in tensors], 1))


def _chunk(x: SparseTensor, chunks: int, dim: int = 0) -> tuple[SparseTensor, ...]:
    _check_channel_dim(dim, "chunk")
    return tuple(x.with_features(f) for f in torch.chunk(x.features, chunks, 1))


def _split(x: SparseTensor, size: int | list[int], dim: int = 0) -> tuple[SparseTensor, ...]:
    _check_channel_dim(dim, "split")
    return tuple(x.with_features(f) for f in torch.split(x.features, size, 1))


def _softmax(x: SparseTensor, dim: int | None = None, **kwargs: Any) -> SparseTensor:
    _check_channel_dim(1 if dim is None else dim, "softmax")
    return x.with_features(torch.softmax(x.features, 1))


def _pooled(x: SparseTensor, mode: str) -> SparseTensor:
    if x.level.stride == 0:
        return x
    return x.at_level(pool_clouds(x.features, x.maps.offsets(x.level), mode), CLOUD)


def _reduce(mode: str) -> Callable[..., Any]:
    def apply(
        x: SparseTensor, dim: Any = None, keepdim: bool = False, dtype: torch.dtype | None = None
    ) -> Any:
        x = x if dtype is None else x.type(dtype)
        dims = sorted(d % 4 for d in ((dim,) if isinstance(dim, int) else tuple(dim or ())))
        if dims not in ([2, 3], [1, 2]):
            raise UnsupportedOnVoxels(
                f"{mode} over dimensions {dim} has no meaning on voxels: only both spatial dimensions (2, 3) "
                "together."
            )
        out = _pooled(x, mode)
        return out if keepdim else out.features

    return apply


def _adaptive(mode: str) -> Callable[..., SparseTensor]:
    def apply(x: SparseTensor, output_size: Any, *args: Any, **kwargs: Any) -> SparseTensor:
        if output_size not in (1, (1, 1), [1, 1]):
            raise UnsupportedOnVoxels(
                f"Adaptive pooling to {output_size} has no meaning on voxels: only to one value per cloud."
            )
        return _pooled(x, mode)

    return apply


def _flatten(x: SparseTensor, start_dim: int = 0, end_dim: int = -1) -> Any:
    if start_dim != 1 or end_dim not in (-1, 3):
        raise UnsupportedOnVoxels(
            f"flatten({start_dim}, {end_dim}) has no meaning on voxels: only flatten(1) after global pooling."
        )
    # before global pooling there is nothing to flatten yet: the network's head pools
    return x.features if x.level.stride == 0 else x


def _permute(x: SparseTensor, *dims: Any) -> SparseTensor:
    order = tuple(dims[0]) if len(dims) == 1 and not isinstance(dims[0], int) else tuple(dims)
    if order not in ((0, 2, 3, 1), (0, 3, 1, 2), (0, 1, 2, 3)):
        raise UnsupportedOnVoxels(f"permute{order} has no meaning on voxels: only channels last and back.")
    return x


def _layer_norm(x: SparseTensor, normalized_shape: Sequence[int], *args: Any, **kwargs: Any) -> SparseTensor:
    if len(normalized_shape) != 1:
        raise UnsupportedOnVoxels(
            f"layer_norm over {tuple(normalized_shape)} has no meaning on voxels: only over the channels."
        )
    return x.with_features(F.layer_norm(x.features, normalized_shape, *args, **kwargs))


_ON_FEATURES = (
    torch.relu, torch.relu_, F.relu, F.relu6, F.silu, F.gelu, torch.sigmoid, torch.sigmoid_, F.sigmoid,
    torch.tanh, F.tanh, F.hardswish, F.hardsigmoid, F.hardtanh, F.leaky_relu, F.elu, F.selu, F.celu,
    F.softplus, F.softsign, F.mish, F.prelu, F.logsigmoid, F.dropout, F.alpha_dropout, torch.exp, torch.log,
    torch.sqrt, torch.rsqrt, torch.abs, torch.neg, torch.clamp, torch.clamp_min, torch.square, torch.clone,
    F.linear, F.batch_norm, torch.nan_to_num, torch.zeros_like, torch.ones_like, torch.detach,
)  # fmt: skip
_BINARY = (
    torch.add, torch.sub, torch.mul, torch.div, torch.true_divide, torch.multiply, torch.maximum,
    torch.minimum, torch.pow, torch.rsub, Tensor.add, Tensor.sub, Tensor.mul, Tensor.div, Tensor.__radd__,
    Tensor.__rsub__, Tensor.__rmul__, Tensor.__rtruediv__,
)  # fmt: skip
_HANDLERS: dict[Any, Callable[..., Any]] = {
    **{f: _features(f) for f in _ON_FEATURES},
    **{f: _binary(f) for f in _BINARY},
    torch.cat: _cat,
    torch.concat: _cat,
    torch.chunk: _chunk,
    torch.split: _split,
    torch.softmax: _softmax,
    F.softmax: _softmax,
    torch.mean: _reduce("mean"),
    torch.amax: _reduce("max"),
    torch.sum: _reduce("sum"),
    F.adaptive_avg_pool2d: _adaptive("mean"),
    F.adaptive_max_pool2d: _adaptive("max"),
    torch.flatten: _flatten,
    torch.permute: _permute,
    F.layer_norm: _layer_norm,
}


class SparseArithmetic:
    """The torch-facing side of `SparseTensor`: functions,
    operators and the few methods that image networks call.
    """

    features: Tensor
    level: Level

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        handler = _HANDLERS.get(func)
        if handler is None:
            name = getattr(func, "__name__", str(func))
            raise UnsupportedOnVoxels(
                f"torch function '{name}' is not defined on a SparseTensor: apply it to .features, or "
                "replace the module that calls it."
            )
        return handler(*args, **(kwargs or {}))

    def _replace(self, features: Tensor) -> SparseTensor:
        return self.with_features(features)  # type: ignore[attr-defined]

    # properties of the features
    @property
    def device(self) -> torch.device:
        return self.features.device

    @property
    def dtype(self) -> torch.dtype:
        return self.features.dtype

    @property
    def shape(self) -> torch.Size:
        return self.features.shape

    @property
    def ndim(self) -> int:
        return 4  # what an image network expects of an activation

    @property
    def is_cuda(self) -> bool:
        return self.features.is_cuda

    @property
    def requires_grad(self) -> bool:
        return self.features.requires_grad

    def dim(self) -> int:
        return 4

    def size(self, dim: int | None = None) -> Any:
        return self.features.shape if dim is None else self.features.shape[dim]

    def __len__(self) -> int:
        return self.features.shape[0]

    def __getitem__(self, index: Any) -> SparseTensor:
        """Channels only, as an image network slices them: x[:, a:b], with or without `:`
        for the spatial dimensions.
        """
        whole = slice(None)
        parts = index if isinstance(index, tuple) else (index,)
        parts = tuple(p for p in parts if p is not Ellipsis)
        if (
            len(parts) < 2
            or parts[0] != whole
            or not isinstance(parts[1], slice)
            or any(p != whole for p in parts[2:])
        ):
            raise UnsupportedOnVoxels(
                "A SparseTensor can be indexed by channels only, x[:, a:b]: "
                "use .features and .coords for rows."
            )
        return self._replace(self.features[:, parts[1]])

    # dtype and device
    def to(self, *args: Any, **kwargs: Any) -> SparseTensor:
        """A device, a dtype, or both: the features take both,
        coordinates and cached maps follow to the device.
        """
        features = self.features.to(*args, **kwargs)
        maps = self.maps.to(features.device)  # type: ignore[attr-defined]
        return type(self)(features, maps.coords(self.level), maps=maps, level=self.level)  # type: ignore

    def cuda(self) -> SparseTensor:
        return self.to("cuda")

    def cpu(self) -> SparseTensor:
        return self.to("cpu")

    def float(self) -> SparseTensor:
        return self._replace(self.features.float())

    def double(self) -> SparseTensor:
        return self._replace(self.features.double())

    def half(self) -> SparseTensor:
        return self._replace(self.features.half())

    def bfloat16(self) -> SparseTensor:
        return self._replace(self.features.bfloat16())

    def type(self, dtype: torch.dtype) -> SparseTensor:
        return self._replace(self.features.to(dtype))

    def contiguous(self, memory_format: Any = None) -> SparseTensor:
        return self._replace(self.features.contiguous())

    def clone(self) -> SparseTensor:
        return self._replace(self.features.clone())

    def detach(self) -> SparseTensor:
        return self._replace(self.features.detach())

    # operators; in-place ones change the object, so that `x.add_(shortcut)` without an assignment does what
    # it says
    def __add__(self, other: Any) -> SparseTensor:
        return torch.add(self, other)  # type: ignore

    def __sub__(self, other: Any) -> SparseTensor:
        return torch.sub(self, other)  # type: ignore

    def __mul__(self, other: Any) -> SparseTensor:
        return torch.mul(self, other)  # type: ignore

    def __truediv__(self, other: Any) -> SparseTensor:
        return torch.div(self, other)  # type: ignore

    def __pow__(self, other: Any) -> SparseTensor:
        return torch.pow(self, other)  # type: ignore

    def __neg__(self) -> SparseTensor:
        return torch.neg(self)  # type: ignore

    def __rsub__(self, other: Any) -> SparseTensor:
        return torch.neg(self) + other  # type: ignore

    def __rtruediv__(self, other: Any) -> SparseTensor:
        return self._replace(_per_voxel(self, other) / self.features)  # type: ignore

    __radd__ = add = __add__
    __rmul__ = mul = __mul__
    sub = __sub__
    div = __truediv__

    def _become(self, result: SparseTensor) -> SparseTensor:
        """This very object with the features of `result`, as after an in-place function:
        whoever else holds it sees them too.
        """
        if result.level != self.level:
            raise ValueError(
                f"An in-place operation cannot change voxels of stride {self.level.stride} into voxels of "
                f"stride {result.level.stride}."
            )
        self.features = result.features
        return self  # type: ignore

    def add_(self, other: Any, *, alpha: Any = 1) -> SparseTensor:
        return self._become(torch.add(self, other, alpha=alpha))  # type: ignore

    def sub_(self, other: Any, *, alpha: Any = 1) -> SparseTensor:
        return self._become(torch.sub(self, other, alpha=alpha))  # type: ignore

    def mul_(self, other: Any) -> SparseTensor:
        return self._become(torch.mul(self, other))  # type: ignore

    def div_(self, other: Any) -> SparseTensor:
        return self._become(torch.div(self, other))  # type: ignore

    __iadd__ = add_
    __isub__ = sub_
    __imul__ = mul_
    __itruediv__ = div_

    # methods of activations
    def relu(self) -> SparseTensor:
        return torch.relu(self)  # type: ignore

    def relu_(self) -> SparseTensor:
        return self._become(torch.relu(self))  # type: ignore

    def sigmoid_(self) -> SparseTensor:
        return self._become(torch.sigmoid(self))  # type: ignore

    def clamp(self, min: Any = None, max: Any = None) -> SparseTensor:
        return torch.clamp(self, min, max)  # type: ignore

    def clamp_(self, min: Any = None, max: Any = None) -> SparseTensor:
        return self._become(torch.clamp(self, min, max))  # type: ignore

    def sigmoid(self) -> SparseTensor:
        return torch.sigmoid(self)  # type: ignore

    def tanh(self) -> SparseTensor:
        return torch.tanh(self)  # type: ignore

    def softmax(self, dim: int) -> SparseTensor:
        return _softmax(self, dim)  # type: ignore

    def mean(self, dim: Any = None, keepdim: bool = False) -> Any:
        return torch.mean(self, dim, keepdim)  # type: ignore

    def sum(self, dim: Any = None, keepdim: bool = False) -> Any:
        return torch.sum(self, dim, keepdim)  # type: ignore

    def amax(self, dim: Any = None, keepdim: bool = False) -> Any:
        return torch.amax(self, dim, keepdim)  # type: ignore

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Any:
        return torch.flatten(self, start_dim, end_dim)  # type: ignore

    def permute(self, *dims: Any) -> SparseTensor:
        return _permute(self, *dims)  # type: ignore

    def chunk(self, chunks: int, dim: int = 0) -> tuple[SparseTensor, ...]:
        return torch.chunk(self, chunks, dim)  # type: ignore

    def split(self, size: Any, dim: int = 0) -> tuple[SparseTensor, ...]:
        return torch.split(self, size, dim)  # type: ignore
