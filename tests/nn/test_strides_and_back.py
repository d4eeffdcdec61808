"""Strided convolutions and the transposed ones that undo them, against loops over dictionaries: coordinates
that are negative and that no stride divides, odd and even kernels, several levels.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

import pointlift as pl
from pointlift.nn import SparseConv3d

Site = tuple[int, int, int, int]


def sites(count: int = 40) -> Tensor:
    """Voxels of two clouds between -13 and 10."""
    generator = torch.Generator().manual_seed(5)
    xyz = torch.randint(-13, 11, (count, 3), generator=generator)
    xyz[0], xyz[1] = torch.tensor([-13, -13, -13]), torch.tensor([10, -1, -7])
    return torch.unique(torch.cat([torch.arange(count)[:, None] % 2, xyz], 1), dim=0).int()


def offsets(kernel: int, step: int) -> list[tuple[int, ...]]:
    low = -(kernel // 2) if kernel % 2 else 0
    return [tuple(step * (low + i) for i in o) for o in itertools.product(range(kernel), repeat=3)]


def parent(site: Site, stride: int) -> Site:
    return (site[0], *(c // stride * stride for c in site[1:]))  # type: ignore[return-value]


def moved(site: Site, offset: tuple[int, ...]) -> Site:
    return (site[0], *(c + o for c, o in zip(site[1:], offset)))  # type: ignore[return-value]


@pytest.mark.parametrize("kernel, stride", [(2, 2), (3, 2), (4, 2), (3, 3), (4, 3), (4, 4), (5, 2)])
@torch.no_grad()
def test_down_twice_and_up_twice_ends_on_the_same_voxels(kernel: int, stride: int) -> None:
    coords = sites()
    generator = torch.Generator().manual_seed(1)
    x = pl.SparseTensor(torch.randn(len(coords), 2, generator=generator, dtype=torch.float64), coords)
    torch.manual_seed(0)
    downs = [SparseConv3d(2, 2, kernel, stride).double() for _ in range(2)]
    ups = [SparseConv3d(2, 2, kernel, stride, transposed=True).double() for _ in range(2)]

    known: list[list[Site]] = [[tuple(c) for c in coords.tolist()]]  # type: ignore[misc]
    values = {site: row for site, row in zip(known[0], x.features)}
    out, step = x, 1
    for down in downs:
        coarse = sorted({parent(site, step * stride) for site in known[-1]})
        values = {
            site: sum(
                (
                    values[moved(site, o)] @ w
                    for o, w in zip(offsets(kernel, step), down.weight)
                    if moved(site, o) in values
                ),
                torch.zeros(2, dtype=torch.float64),
            )
            for site in coarse
        }
        out, step = down(out), step * stride
        known.append(coarse)
        assert [tuple(c) for c in out.coords.tolist()] == coarse
        torch.testing.assert_close(out.features, torch.stack([values[s] for s in coarse]))
    for up, fine in zip(ups, known[-2::-1]):
        step //= stride
        there = set(fine)
        up_values = {site: torch.zeros(2, dtype=torch.float64) for site in fine}
        for site, row in values.items():
            for o, w in zip(offsets(kernel, step), up.weight):
                if moved(site, o) in there:
                    up_values[moved(site, o)] += row @ w
        out, values = up(out), up_values
        assert [tuple(c) for c in out.coords.tolist()] == fine
        torch.testing.assert_close(out.features, torch.stack([values[s] for s in fine]))
    assert torch.equal(out.coords, x.coords) and out.level == x.level


@pytest.mark.parametrize("kernel, stride", [(2, 2), (3, 2), (4, 2), (4, 3), (4, 4), (6, 5), (6, 6)])
@torch.no_grad()
def test_every_voxel_gets_a_value_back(kernel: int, stride: int) -> None:
    """The kernels that decoders use: none of the original voxels is left at zero."""
    coords = sites()
    ones = pl.SparseTensor(torch.ones(len(coords), 1), coords)
    down, up = SparseConv3d(1, 1, kernel, stride), SparseConv3d(1, 1, kernel, stride, transposed=True)
    for layer in (down, up):
        layer.weight.fill_(1.0)
    back = up(down(ones))
    assert torch.equal(back.coords, coords) and bool((back.features >= 1).all())


@torch.no_grad()
def test_a_shift_that_strides_do_not_divide_moves_parents_but_not_voxels() -> None:
    coords = sites()
    shifted = coords + torch.tensor([0, 3, -5, 7], dtype=torch.int32)
    down, up = SparseConv3d(1, 1, 2, 2), SparseConv3d(1, 1, 2, 2, transposed=True)
    for c in (coords, shifted):
        x = pl.SparseTensor(torch.ones(len(c), 1), c)
        coarse = down(x)
        assert bool((coarse.coords[:, 1:] % 2 == 0).all()) and torch.equal(up(coarse).coords, x.coords)
