"""Whether the kernels compute what they should here, and how fast:
numbers against torch's own and against the references.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pointlift.core.mesh import Mesh
from pointlift.core.sparse_tensor import PointBatch, SparseTensor
from pointlift.ops.backend import Backend, backend
from pointlift.ops.distances import chamfer_distance, earth_movers_distance
from pointlift.ops.feature_neighbors.api import feature_knn
from pointlift.ops.interpolate.api import three_nn_interpolate
from pointlift.ops.kernel_map.api import kernel_map
from pointlift.ops.neighbor_pool.api import neighbor_max, neighbor_sum
from pointlift.ops.neighbors import api as neighbors
from pointlift.ops.sampling.api import farthest_point_sampling
from pointlift.ops.sparse_conv.api import sparse_conv
from pointlift.ops.sparse_pool.api import sparse_avg_pool, sparse_max_pool
from pointlift.ops.voxelize.api import Reduce, voxelize
from pointlift.views import project_cloud, render_fragments, render_mesh, rig

__all__ = ["Check", "self_test", "speed_hint", "warm_kernels"]

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-11}


@dataclass(frozen=True)
class Check:
    """One line of the self-test: what was compared, the largest error relative to the largest value,
    and whether it is small enough.
    """

    name: str
    error: float
    passed: bool


def self_test(seed: int = 0, dtypes: Sequence[torch.dtype] = tuple(TOLERANCE)) -> list[Check]:
    """Convolution and pooling on a full grid against torch's dense ones, with gradients;
    voxelization against a plain mean.

    Point operations and views are held against the torch reference,
    the assignment of the auction against the exact one.
    """
    checks = []
    for dtype in dtypes:
        name = str(dtype).removeprefix("torch.")
        for kernel, stride, groups in ((3, 1, 1), (3, 2, 1), (2, 2, 1), (5, 1, 2), (1, 1, 1)):
            errors = _conv_errors(kernel, stride, groups, dtype, seed)
            label = f"conv k{kernel} s{stride}{f' g{groups}' if groups > 1 else ''} {name}"
            for part, error in zip(("output", "input gradient", "weight gradient"), errors):
                checks.append(Check(f"{label}: {part}", error, error < TOLERANCE[dtype]))
        for mode, error in _pool_errors(dtype, seed).items():
            checks.append(Check(f"{mode} pool {name}", error, error < TOLERANCE[dtype]))
        for label, error in (_point_errors(dtype, seed) | _distance_errors(dtype, seed)).items():
            checks.append(Check(f"points {name}: {label}", error, error < TOLERANCE[dtype]))
    for label, error in _view_errors(seed).items():
        checks.append(Check(f"views float32: {label}", error, error < TOLERANCE[torch.float32]))
    error = _voxelize_error(seed)
    checks.append(Check("voxelize mean float32", error, error < 1e-5))
    return checks


def _full_grid(
    side: int, clouds: int, channels: int, dtype: torch.dtype, seed: int
) -> tuple[Tensor, SparseTensor]:
    """(B, C, side, side, side) random values, and the same as voxels."""
    generator = torch.Generator().manual_seed(seed)
    dense = torch.randn(clouds, channels, side, side, side, generator=generator, dtype=torch.float64).to(
        dtype
    )
    axis = torch.arange(side)
    coords = torch.cartesian_prod(torch.arange(clouds), axis, axis, axis).to(torch.int32)
    return dense, SparseTensor(dense.permute(0, 2, 3, 4, 1).reshape(-1, channels).contiguous(), coords)


def _conv_errors(
    kernel: int, stride: int, groups: int, dtype: torch.dtype, seed: int
) -> tuple[float, float, float]:
    dense, sparse = _full_grid(8, 2, 6, dtype, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    weight = (
        torch.randn(kernel**3, 6 // groups, 8, generator=generator, dtype=torch.float64)
        .to(dtype)
        .requires_grad_()
    )
    x = sparse.features.clone().requires_grad_()
    kmap, level = kernel_map(sparse.maps, sparse.level, kernel, stride)
    out = sparse.at_level(sparse_conv(x, weight, kmap, groups=groups), level).dense()
    dense_weight = (
        weight.detach()
        .reshape(kernel, kernel, kernel, 6 // groups, 8)
        .permute(4, 3, 0, 1, 2)
        .contiguous()
        .requires_grad_()
    )
    dense.requires_grad_()
    padding = kernel // 2 if kernel % 2 else 0
    expected = functional.conv3d(dense, dense_weight, stride=stride, padding=padding, groups=groups)
    grad = torch.randn(expected.shape, generator=generator, dtype=torch.float64).to(dtype)
    gx, gw = torch.autograd.grad(out, (x, weight), grad)
    ex, ew = torch.autograd.grad(expected, (dense, dense_weight), grad)
    return (
        _relative(out, expected),
        _relative(gx, ex.permute(0, 2, 3, 4, 1).reshape(-1, 6)),
        _relative(gw, ew.permute(2, 3, 4, 1, 0).reshape(kernel**3, -1, 8)),
    )


def _pool_errors(dtype: torch.dtype, seed: int) -> dict[str, float]:
    dense, sparse = _full_grid(8, 2, 5, dtype, seed)
    kmap, level = kernel_map(sparse.maps, sparse.level, 2, 2)
    pools: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
        "max": (sparse_max_pool, functional.max_pool3d),
        "mean": (sparse_avg_pool, functional.avg_pool3d),
    }
    found = {
        mode: sparse.at_level(own(sparse.features, kmap), level).dense() for mode, (own, _) in pools.items()
    }
    return {mode: _relative(found[mode], dense_pool(dense, 2)) for mode, (_, dense_pool) in pools.items()}


def _voxelize_error(seed: int) -> float:
    generator = torch.Generator().manual_seed(seed)
    xyz = torch.rand(500, 3, generator=generator)
    voxels = voxelize(PointBatch.from_list([xyz]), 0.2)
    cell = torch.floor(xyz.double() / 0.2)
    worst = 0.0
    for coords, feature in zip(voxels.coords[:, 1:], voxels.features):
        members = (cell == coords.double()).all(1)
        worst = max(worst, float((xyz[members].double().mean(0) - feature.double()).abs().max()))
    return worst


def _point_errors(dtype: torch.dtype, seed: int) -> dict[str, float]:
    """Sampling, searches (in a small cloud and in a large one), grouping and interpolation, with gradients;
    a wrong row counts as 1.
    """
    generator = torch.Generator().manual_seed(seed)
    xyz = torch.rand(7000, 3, generator=generator, dtype=torch.float64).to(dtype)
    offsets = torch.tensor([0, 300, 7000])
    features = torch.rand(7000, 5, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    centres = xyz[:40]
    asked = torch.tensor([0, 20, 40])
    parts = ("sampling", "k nearest", "features", "ball", "grouping", "pooling", "interpolation")
    found: dict[str, list[list[Tensor]]] = {part: [] for part in parts}
    choices: tuple[Backend | None, ...] = (None, "reference")
    for name in choices:
        with backend(name):
            near = neighbors.knn(centres, xyz, 6, asked, offsets)[1]
            grouped = neighbors.group(features, near)
            spread = three_nn_interpolate(features, xyz, centres, offsets, asked)
            found["sampling"].append([farthest_point_sampling(xyz, offsets, 20)])
            found["k nearest"].append([near])
            found["ball"].append([neighbors.ball_query(centres, xyz, 0.1, 6, asked, offsets)])
            found["grouping"].append([grouped, *torch.autograd.grad(grouped.square().sum(), features)])
            found["interpolation"].append([spread, *torch.autograd.grad(spread.square().sum(), features)])
            found["features"].append([feature_knn(features.detach()[:300], 6, offsets[:2])])
            pooled = [neighbor_max(features, near), neighbor_sum(features, near)]
            found["pooling"].append(
                [*pooled, *(torch.autograd.grad(p.square().sum(), features)[0] for p in pooled)]
            )
    return {label: max(_difference(a, b) for a, b in zip(*pair)) for label, pair in found.items()}


def _distance_errors(dtype: torch.dtype, seed: int) -> dict[str, float]:
    """Chamfer distance with gradients; by how much the auction's assignment costs more than its bound
    allows.
    """
    generator = torch.Generator().manual_seed(seed)
    a, b = (
        torch.rand(3, 90, 3, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for _ in range(2)
    )
    found = []
    choices: tuple[Backend | None, ...] = (None, "reference")
    for name in choices:
        with backend(name):
            value = chamfer_distance(a, b)
            found.append([value, *torch.autograd.grad(value.sum(), (a, b))])
    bound = 1e-3
    excess = (
        earth_movers_distance(a, b, epsilon=bound).distance
        - earth_movers_distance(a, b, "exact").distance
        - bound
    )
    return {
        "chamfer": max(_difference(x, y) for x, y in zip(*found)),
        "assignment": max(float(excess.detach().max()), 0.0),
    }


def _view_errors(seed: int) -> dict[str, float]:
    """Six views of 40 points and of the triangles between them;
    where a pixel shows another face, that counts as 1.
    """
    generator = torch.Generator().manual_seed(seed)
    xyz = torch.rand(40, 3, generator=generator) - 0.5
    mesh, cloud, cameras = (
        Mesh(xyz, torch.arange(39).reshape(13, 3)),
        PointBatch.from_list([xyz]),
        rig("simpleview-6"),
    )
    found: dict[str, list[list[Tensor]]] = {"triangles": [], "shading": [], "points": [], "depth maps": []}
    choices: tuple[Backend | None, ...] = (None, "reference")
    for name in choices:
        with backend(name):
            found["triangles"].append([render_fragments(mesh, cameras, 24).face])
            found["shading"].append([render_mesh(mesh, cameras, 24)])
            found["points"].append([project_cloud(cloud, cameras, 24)])
            found["depth maps"].append([project_cloud(cloud, cameras, 24, mode="harmonic")])
    return {label: max(_difference(a, b) for a, b in zip(*pair)) for label, pair in found.items()}


def _difference(value: Tensor, expected: Tensor) -> float:
    return (
        _relative(value, expected) if value.is_floating_point() else float(not torch.equal(value, expected))
    )


def _relative(value: Tensor, expected: Tensor) -> float:
    want = expected.detach().double()
    return float((value.detach().double() - want).abs().max() / want.abs().max().clamp(min=1e-30))


def warm_kernels(dtypes: Sequence[torch.dtype] = tuple(TOLERANCE)) -> float:
    """Compile every numba kernel for the types that training and inference use, in the order of `dtypes`;
    returns the seconds it took.
    """
    start = time.perf_counter()
    self_test(dtypes=dtypes)
    modes: tuple[Reduce, ...] = ("mean", "first", "max")
    for dtype in dtypes:
        cloud = PointBatch.from_list([torch.rand(64, 3, generator=torch.Generator().manual_seed(0))])
        for mode in modes:
            voxelize(cloud, 0.1, mode, features=cloud.xyz.to(dtype), origin="cloud")
        _, sparse = _full_grid(4, 1, 8, dtype, 0)
        for groups in (1, 8):
            for kernel, stride in ((3, 1), (3, 2)):
                x, weight = (
                    sparse.features.clone().requires_grad_(),
                    torch.ones(kernel**3, 8 // groups, 8, dtype=dtype, requires_grad=True),
                )
                kmap, _ = kernel_map(sparse.maps, sparse.level, kernel, stride)
                sparse_conv(x, weight, kmap, groups=groups).sum().backward()
                for pool in (sparse_max_pool, sparse_avg_pool):
                    pool(x, kmap).sum().backward()
    return time.perf_counter() - start


def speed_hint() -> str:
    """How close a sparse convolution on a random surface comes to the machine's matrix product,
    in one line.
    """
    side, channels = 40, 64
    axis = torch.arange(side)
    grid = torch.cartesian_prod(axis, axis, axis)
    shell = ((grid - side / 2).double().norm(dim=1) - side / 2.5).abs() < 1.0
    coords = torch.cat([torch.zeros(int(shell.sum()), 1, dtype=torch.int64), grid[shell]], 1)
    x = SparseTensor(torch.ones(coords.shape[0], channels), coords)
    kmap, _ = kernel_map(x.maps, x.level, 3)
    weight = torch.ones(27, channels, channels)
    flops = 2.0 * int((kmap.table >= 0).sum()) * channels * channels
    matrix = torch.ones(1024, 1024)
    own = flops / _seconds(lambda: sparse_conv(x.features, weight, kmap)) / 1e9
    gemm = 2.0 * 1024**3 / _seconds(lambda: matrix @ matrix) / 1e9
    line = f"speed: sparse convolution {own:.0f} GFLOP/s, matrix product {gemm:.0f} GFLOP/s here"
    if own < 0.25 * gemm:
        line += "; less than a quarter of it: is the machine busy, or OMP_NUM_THREADS set for another one?"
    return line


def _seconds(call: Callable[[], object]) -> float:
    """Best of five calls after one to warm up."""
    call()
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best
