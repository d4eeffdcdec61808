"""Voxelization: numba and torch against a dictionary of cells."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import Tensor

from pointlift.core.sparse_tensor import GridError, PointBatch
from pointlift.ops.voxelize import cpu, reference, voxelize

MODULES = {"reference": reference, "cpu": cpu}


def clouds(seed: int = 0, sizes: tuple[int, ...] = (300, 1, 170)) -> PointBatch:
    g = torch.Generator().manual_seed(seed)
    xyz = [torch.randn(n, 3, generator=g) for n in sizes]
    return PointBatch.from_list(xyz, [torch.randn(n, 4, generator=g) for n in sizes])


def cells_of(cloud: PointBatch, size: float) -> dict[tuple[int, ...], list[int]]:
    """Rows of every occupied cell, in input order; cells in lexicographic order."""
    found: dict[tuple[int, ...], list[int]] = {}
    for row, (b, p) in enumerate(zip(cloud.batch.tolist(), cloud.xyz.double().tolist())):
        found.setdefault((b, *(math.floor(v / size) for v in p)), []).append(row)
    return dict(sorted(found.items()))


def reduced(values: Tensor, rows: list[int], mode: str) -> Tensor:
    return {"mean": values[rows].mean(0), "first": values[rows[0]], "max": values[rows].amax(0)}[mode]


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("mode", ["mean", "first", "max"])
@pytest.mark.parametrize("size", [0.05, 0.5, 3.0])
def test_voxels_equal_a_dictionary(mode: str, size: float, backend: str) -> None:
    cloud = clouds()
    out = voxelize(cloud, size, mode, backend=backend)
    cells = cells_of(cloud, size)
    assert [tuple(c) for c in out.coords.tolist()] == list(cells)
    expected = torch.stack([reduced(cloud.features, rows, mode) for rows in cells.values()])
    torch.testing.assert_close(out.features, expected, rtol=1e-5, atol=1e-6)
    place = {row: i for i, rows in enumerate(cells.values()) for row in rows}
    assert out.maps.point_rows.tolist() == [place[r] for r in range(len(place))]
    assert torch.equal(out.to_points(), out.features[out.maps.point_rows])
    assert out.batch_size == 3 and out.stride == 1


def test_features_default_to_xyz_and_can_be_given(backend: str) -> None:
    cloud = PointBatch.from_list([torch.tensor([[0.1, 0.1, 0.1], [0.3, 0.1, 0.1], [1.1, 0.0, 0.0]])])
    out = voxelize(cloud, 1.0, backend=backend)
    torch.testing.assert_close(out.features, torch.tensor([[0.2, 0.1, 0.1], [1.1, 0.0, 0.0]]))
    given = torch.tensor([[1.0], [3.0], [5.0]], dtype=torch.float64)
    assert voxelize(cloud, 1.0, features=given, backend=backend).features.tolist() == [[2.0], [5.0]]


def test_gradients_reach_the_features(backend: str) -> None:
    cloud = PointBatch.from_list([torch.tensor([[0.1, 0.1, 0.1], [0.3, 0.1, 0.1], [1.1, 0.0, 0.0]])])
    leaf = torch.tensor([[1.0], [3.0], [5.0]], requires_grad=True)
    voxelize(cloud, 1.0, features=leaf, backend=backend).features.sum().backward()
    assert leaf.grad is not None and leaf.grad.tolist() == [[0.5], [0.5], [1.0]]


def test_origin_cloud_ignores_translations_by_whole_voxels(backend: str) -> None:
    xyz = torch.rand(200, 3, generator=torch.Generator().manual_seed(3))
    moved = xyz + torch.tensor([1.0, -2.0, 0.5])
    coords = [
        voxelize(PointBatch.from_list([p]), 0.25, origin="cloud", backend=backend).coords
        for p in (xyz, moved)
    ]
    assert torch.equal(coords[0], coords[1]) and coords[0][:, 1:].amin(0).tolist() == [0, 0, 0]
    world = voxelize(PointBatch.from_list([moved]), 0.25, backend=backend).coords
    assert torch.equal(
        world[:, 1:] - torch.tensor([4, -8, 2]),
        voxelize(PointBatch.from_list([xyz]), 0.25, backend=backend).coords[:, 1:],
    )


def test_order_of_points_does_not_change_voxels(backend: str) -> None:
    xyz = torch.randn(500, 3, generator=torch.Generator().manual_seed(4))
    order = torch.randperm(500, generator=torch.Generator().manual_seed(5))
    a, b = (voxelize(PointBatch.from_list([p]), 0.3, backend=backend) for p in (xyz, xyz[order]))
    assert torch.equal(a.coords, b.coords)
    torch.testing.assert_close(a.features, b.features)
    assert torch.equal(a.maps.point_rows[order], b.maps.point_rows)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("reduce", ["mean", "first", "max"])
def test_empty_clouds_and_duplicated_points(reduce: str, backend: str) -> None:
    nothing = voxelize(PointBatch.from_list([]), 0.1, reduce, backend=backend)
    assert nothing.coords.shape == (0, 4) and nothing.features.shape == (0, 3) and nothing.batch_size == 0
    some = PointBatch.from_list([torch.zeros(0, 3), torch.full((4, 3), 0.5), torch.zeros(0, 3)])
    out = voxelize(some, 0.1, reduce, backend=backend)
    assert (
        out.coords.tolist() == [[1, 5, 5, 5]] and out.features.tolist() == [[0.5] * 3] and out.batch_size == 3
    )


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("spread", [1, 50, 10**6, 2**61])
def test_unique_rows_keep_the_first_row(spread: int, backend: str) -> None:
    key = torch.randint(-spread, spread + 1, (1500,), generator=torch.Generator().manual_seed(spread % 97))
    first, inverse = MODULES[backend].unique_rows(key)
    seen: dict[int, int] = {}
    for row, k in enumerate(key.tolist()):
        seen.setdefault(k, row)
    assert first.tolist() == [seen[k] for k in sorted(seen)]
    assert torch.equal(key[first][inverse], key)


@pytest.mark.parametrize("mode", ["mean", "first", "max"])
def test_reduce_rows_agree_and_keep_nan(mode: str, dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(0)
    values, inverse = torch.randn(900, 7, generator=g, dtype=dtype), torch.randint(0, 60, (900,), generator=g)
    values[5, 3] = torch.nan
    inverse[:60] = torch.arange(60)
    torch.testing.assert_close(
        cpu.reduce_rows(values, inverse, 60, mode),
        reference.reduce_rows(values, inverse, 60, mode),
        equal_nan=True,
    )


def test_refusals_and_warning() -> None:
    cloud = clouds()
    for bad in (0, -1.0, math.nan, math.inf, "0.1"):
        with pytest.raises(ValueError, match="voxel_size must be a positive number"):
            voxelize(cloud, bad)
    with pytest.raises(ValueError, match="reduce must be"):
        voxelize(cloud, 0.1, "median")
    with pytest.raises(ValueError, match="origin must be"):
        voxelize(cloud, 0.1, origin="moon")
    with pytest.raises(ValueError, match="one row per point"):
        voxelize(cloud, 0.1, features=torch.zeros(3, 1))
    with pytest.raises(GridError, match="overflows the grid"):
        voxelize(PointBatch.from_list([torch.tensor([[1e9, 0.0, 0.0]])]), 1e-3)
    with pytest.warns(UserWarning, match="puts all 300 points of cloud 0 into one voxel"):
        voxelize(PointBatch.from_list([torch.rand(300, 3)]), 5.0)
    around = torch.rand(300, 3) - 0.5  # a cloud smaller than a voxel lies across the corner of eight
    with pytest.warns(UserWarning, match="puts all 300 points of cloud 1 into 8 voxels"):
        voxelize(PointBatch.from_list([torch.rand(3, 3), around]), 5.0)
    with pytest.warns(UserWarning, match="puts all 300 points of cloud 0 into 2 voxels.*far outside"):
        voxelize(PointBatch.from_list([torch.cat([torch.rand(299, 3), torch.full((1, 3), 1e6)])]), 1.0)
    with pytest.warns(UserWarning, match="Cloud 1 of a batch is a single point"):
        voxelize(PointBatch.from_list([torch.rand(3, 3), torch.rand(1, 3)]), 0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # few points in few voxels are nothing unusual
        voxelize(PointBatch.from_list([torch.rand(40, 3) - 0.5]), 0.5)
        # three points in one voxel are nothing unusual
        voxelize(PointBatch.from_list([torch.rand(3, 3)]), 5.0)
