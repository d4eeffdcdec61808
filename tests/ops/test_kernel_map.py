"""Kernel maps: numba and torch against a dictionary."""

from __future__ import annotations

import pytest
import torch
from sparse_oracle import random_coords, table_by_dict

from pointlift.core.sparse_tensor import CoordinateMaps, Level, SparseTensor
from pointlift.ops.kernel_map import cpu, kernel_map, kernel_offsets, reference


def maps_of(coords: torch.Tensor, stride: int = 1) -> CoordinateMaps:
    return SparseTensor(torch.zeros(len(coords), 1), coords, stride).maps


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 4, 5, 6, 7])
def test_table_equals_a_dictionary(kernel_size: int, dilation: int, stride: int, backend: str) -> None:
    coords = random_coords(kernel_size, side=5)
    maps = maps_of(coords)
    kmap, level = kernel_map(maps, Level(1), kernel_size, stride, dilation, backend=backend)
    sites = maps.coords(level)
    expected = sorted({(b, *(v // stride * stride for v in xyz)) for b, *xyz in coords.tolist()})
    assert [tuple(c) for c in sites.tolist()] == expected
    assert torch.equal(kmap.table, table_by_dict(coords, sites, kernel_size, dilation, 1))
    assert (kmap.n_in, kmap.n_out, kmap.kernel_volume) == (len(coords), len(sites), kernel_size**3)
    assert kmap.symmetric == (stride == 1 and kernel_size % 2 == 1)


def test_offsets_are_in_units_of_the_levels_stride(backend: str) -> None:
    coords = random_coords(3, stride=2)
    maps = maps_of(coords, 2)
    kmap, level = kernel_map(maps, Level(2), 3, 2, backend=backend)
    assert level == Level(4)
    assert torch.equal(kmap.table, table_by_dict(coords, maps.coords(level), 3, 1, 2))


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("kernel_size,stride", [(3, 1), (2, 2), (3, 2), (1, 1), (2, 1)])
def test_reverse_and_pairs(kernel_size: int, stride: int, backend: str) -> None:
    maps = maps_of(random_coords(11))
    kmap, _ = kernel_map(maps, Level(1), kernel_size, stride)
    implementation = {"reference": reference, "cpu": cpu}[backend]
    reverse = implementation.reverse_table(kmap.table, kmap.n_in)
    pairs = {(k, i, o) for k, row in enumerate(kmap.table.tolist()) for o, i in enumerate(row) if i >= 0}
    assert {(k, i, o) for k, row in enumerate(reverse.tolist()) for i, o in enumerate(row) if o >= 0} == pairs
    assert torch.equal(kmap.reverse, reverse)  # for symmetric maps: the table upside down
    source, target, start = implementation.pairs_of(kmap.table)
    listed = [
        (k, int(source[p]), int(target[p]))
        for k in range(kmap.kernel_volume)
        for p in range(start[k], start[k + 1])
    ]
    assert listed == sorted(pairs, key=lambda t: (t[0], t[2]))
    assert source.dtype == target.dtype == torch.int32


@pytest.mark.parametrize("seed", range(3))
def test_lookup_of_unsorted_and_foreign_queries_and_of_any_shifts(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    key = torch.unique(torch.randint(0, 3000, (1200,), generator=g))
    query = torch.randint(-50, 3050, (777,), generator=g)
    for shift in ([5, 3, 4], [0], [-7, -4, -1, 100, 103, 106], [-7, -4, 100, 104], [2, 4, 6], [0, 0, 1]):
        s = torch.tensor(shift)
        assert torch.equal(cpu.lookup(key, query, s), reference.lookup(key, query, s))


def test_large_sets_are_cut_into_chunks(backend: str) -> None:
    key = torch.arange(0, 200_000, 3)
    implementation = {"reference": reference, "cpu": cpu}[backend]
    table = implementation.lookup(key, key, torch.tensor([-3, 0, 3]))
    rows = torch.arange(len(key), dtype=torch.int32)
    assert torch.equal(table[1], rows)
    assert table[0, 0] == -1 and torch.equal(table[0, 1:], rows[:-1])
    assert table[2, -1] == -1 and torch.equal(table[2, :-1], rows[1:])
    source, target, start = implementation.pairs_of(table)
    assert start == [0, len(key) - 1, 2 * len(key) - 1, 3 * len(key) - 2]
    assert torch.equal(target[: start[1]], rows[1:]) and torch.equal(source[: start[1]], rows[:-1])
    assert torch.equal(implementation.reverse_table(table, len(key)), table.flip(0))


@pytest.mark.usefixtures("poisoned")
def test_empty_and_single(backend: str) -> None:
    maps = maps_of(torch.zeros(0, 4, dtype=torch.int32))
    kmap, _ = kernel_map(maps, Level(1), 3, 2, backend=backend)
    assert kmap.table.shape == (27, 0) and kmap.reverse.shape == (27, 0) and kmap.pairs.start == [0] * 28
    maps = maps_of(torch.tensor([[0, 5, -7, 2]], dtype=torch.int32))
    kmap, _ = kernel_map(maps, Level(1), 3, backend=backend)
    assert kmap.table[13].tolist() == [0] and int((kmap.table >= 0).sum()) == 1


def test_clouds_never_meet(backend: str) -> None:
    one = random_coords(5, batch=1)
    both = torch.cat([one, one + torch.tensor([1, 0, 0, 0], dtype=torch.int32)])
    n = len(one)
    single, _ = kernel_map(maps_of(one), Level(1), 5, backend=backend)
    double, _ = kernel_map(maps_of(both), Level(1), 5, backend=backend)
    assert torch.equal(double.table[:, :n], single.table)
    assert torch.equal(double.table[:, n:], torch.where(single.table >= 0, single.table + n, -1))


def test_maps_are_made_once_and_transposed_maps_lead_back(backend: str) -> None:
    maps = maps_of(random_coords(6))
    down, coarse = kernel_map(maps, Level(1), 2, 2, backend=backend)
    assert kernel_map(maps, Level(1), 2, 2, backend=backend)[0] is down
    up, fine = kernel_map(maps, coarse, 2, 2, transposed=True, backend=backend)
    assert fine == Level(1) and torch.equal(up.table, down.reverse) and up.transposed() is down
    assert torch.equal(up.reverse, down.table)
    moved = down.to("cpu")
    assert torch.equal(moved.table, down.table) and moved.n_in == down.n_in


def test_reach_makes_every_site_the_kernel_reaches(backend: str) -> None:
    coords = random_coords(8, fill=0.05)
    maps = maps_of(coords)
    kmap, level = kernel_map(maps, Level(1), 3, 2, sites="reach", backend=backend)
    axis = (-1, 0, 1)
    expected = {
        (b, x - i, y - j, z - k)
        for b, x, y, z in coords.tolist()
        for i in axis
        for j in axis
        for k in axis
        if (x - i) % 2 == 0 and (y - j) % 2 == 0 and (z - k) % 2 == 0
    }
    assert [tuple(c) for c in maps.coords(level).tolist()] == sorted(expected)
    assert torch.equal(kmap.table, table_by_dict(coords, maps.coords(level), 3, 1, 1))
    assert bool((kmap.table >= 0).any(0).all())


def test_refusals() -> None:
    maps = maps_of(random_coords(6))
    with pytest.raises(ValueError, match="transposed convolution of stride 2 cannot start"):
        kernel_map(maps, Level(1), 2, 2, transposed=True)
    lonely = maps_of(random_coords(6, stride=2), 2)
    with pytest.raises(ValueError, match="can only return to them"):
        kernel_map(lonely, Level(2), 2, 2, transposed=True)


def test_offsets_are_lexicographic() -> None:
    assert kernel_offsets(2).tolist() == [
        [0, 0, 0],
        [0, 0, 1],
        [0, 1, 0],
        [0, 1, 1],
        [1, 0, 0],
        [1, 0, 1],
        [1, 1, 0],
        [1, 1, 1],
    ]
    assert kernel_offsets(3, 2)[0].tolist() == [-2, -2, -2] and kernel_offsets(3, 2)[14].tolist() == [0, 0, 2]
    assert kernel_offsets(1).tolist() == [[0, 0, 0]]
