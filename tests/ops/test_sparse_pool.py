"""Pooling: numba and torch against loops over the table."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from sparse_oracle import random_coords
from torch import Tensor

from pointlift.core.sparse_tensor import SparseTensor
from pointlift.ops.kernel_map import KernelMap, kernel_map
from pointlift.ops.sparse_pool import cpu, reference, sparse_avg_pool, sparse_max_pool


def pool_by_loops(x: Tensor, table: Tensor, mode: str) -> Tensor:
    out = torch.zeros(table.shape[1], x.shape[1], dtype=x.dtype)
    for i in range(table.shape[1]):
        rows = [x[r] for r in table[:, i].tolist() if r >= 0]
        if rows:
            stacked = torch.stack(rows)
            out[i] = {
                "max": stacked.amax(0),
                "mean": stacked.mean(0),
                "kernel": stacked.sum(0) / table.shape[0],
            }[mode]
    return out


def case(
    kernel_size: int, stride: int, dtype: torch.dtype, channels: int = 5, dilation: int = 1
) -> tuple[Tensor, KernelMap]:
    coords = random_coords(kernel_size + 10 * stride)
    g = torch.Generator().manual_seed(0)
    # mostly negative: a zero would win
    x = SparseTensor(torch.randn(len(coords), channels, generator=g, dtype=dtype) - 2, coords)
    return x.features, kernel_map(x.maps, x.level, kernel_size, stride, dilation)[0]


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel_size", [1, 2, 3])
def test_pools_equal_loops(
    kernel_size: int, stride: int, dilation: int, dtype: torch.dtype, backend: str
) -> None:
    x, kmap = case(kernel_size, stride, dtype, dilation=dilation)
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 1e-13}
    assert torch.equal(sparse_max_pool(x, kmap, backend), pool_by_loops(x, kmap.table, "max"))
    torch.testing.assert_close(
        sparse_avg_pool(x, kmap, backend=backend), pool_by_loops(x, kmap.table, "mean"), **tolerance
    )
    torch.testing.assert_close(
        sparse_avg_pool(x, kmap, "kernel", backend), pool_by_loops(x, kmap.table, "kernel"), **tolerance
    )


def test_full_grid_equals_dense_pooling(backend: str) -> None:
    coords = torch.cartesian_prod(torch.arange(2), torch.arange(6), torch.arange(6), torch.arange(6)).int()
    x = SparseTensor(torch.randn(len(coords), 3, generator=torch.Generator().manual_seed(1)), coords)
    kmap, level = kernel_map(x.maps, x.level, 3, 2)
    assert torch.equal(
        x.at_level(sparse_max_pool(x.features, kmap, backend), level).dense(),
        F.max_pool3d(x.dense(), 3, 2, 1),
    )
    kmap, level = kernel_map(x.maps, x.level, 2, 2)
    pooled = x.at_level(sparse_avg_pool(x.features, kmap, backend=backend), level).dense()
    torch.testing.assert_close(pooled, F.avg_pool3d(x.dense(), 2, 2))


@pytest.mark.parametrize("kernel_size,stride", [(2, 2), (3, 1), (3, 2)])
def test_gradcheck(kernel_size: int, stride: int, backend: str) -> None:
    x, kmap = case(kernel_size, stride, torch.float64, 2)
    x = x[: kmap.n_in].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda t: sparse_max_pool(t, kmap, backend), x, fast_mode=True)
    assert torch.autograd.gradcheck(lambda t: sparse_avg_pool(t, kmap, backend=backend), x, fast_mode=True)


def test_ties_go_to_the_first_voxel_under_the_kernel(backend: str) -> None:
    kmap = KernelMap(torch.tensor([[2, -1], [0, 1], [1, 0]], dtype=torch.int32), 3)
    x = torch.tensor([[1.0, -5.0], [1.0, -5.0], [1.0, -7.0]], requires_grad=True)
    out = sparse_max_pool(x, kmap, backend)
    out.backward(torch.tensor([[1.0, 10.0], [100.0, 1000.0]]))
    assert out.tolist() == [[1.0, -5.0], [1.0, -5.0]]
    assert x.grad is not None and x.grad.tolist() == [[0.0, 10.0], [100.0, 1000.0], [1.0, 0.0]]


def test_minus_infinity_and_nan_are_values(backend: str) -> None:
    kmap = KernelMap(torch.tensor([[0], [1]], dtype=torch.int32), 2)
    implementation = {"reference": reference, "cpu": cpu}[backend]
    low = torch.tensor([[-torch.inf, torch.nan], [-torch.inf, 1.0]])
    out, winner = implementation.max_forward(low, kmap.table)
    assert winner.tolist() == [[0, 0]] and out[0, 0] == -torch.inf and bool(out[0, 1].isnan())


@pytest.mark.usefixtures("poisoned")
def test_outputs_without_inputs_are_zero_and_empty_sets_work(dtype: torch.dtype, backend: str) -> None:
    for n_in, n_out, channels in ((3, 2, 4), (0, 2, 4), (3, 0, 4), (3, 2, 0), (0, 0, 1)):
        kmap = KernelMap(torch.full((8, n_out), -1, dtype=torch.int32), n_in)
        for pool in (sparse_max_pool, sparse_avg_pool):
            x = torch.ones(n_in, channels, dtype=dtype, requires_grad=True)
            out = pool(x, kmap, backend=backend)
            out.sum().backward()
            assert torch.equal(out.detach(), torch.zeros(n_out, channels, dtype=dtype))
            assert x.grad is not None and torch.equal(x.grad, torch.zeros_like(x))


def test_results_do_not_depend_on_threads() -> None:
    x, kmap = case(3, 1, torch.float32, 40)
    before = torch.get_num_threads()
    grads = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            leaf = x.clone().requires_grad_()
            (
                sparse_max_pool(leaf, kmap, "cpu").square().sum()
                + sparse_avg_pool(leaf, kmap, backend="cpu").square().sum()
            ).backward()
            grads.append(leaf.grad)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(grads[0], grads[1])


def test_refusals() -> None:
    x, kmap = case(2, 2, torch.float32)
    with pytest.raises(ValueError, match="for this kernel map"):
        sparse_max_pool(x[:-1], kmap)
    with pytest.raises(ValueError, match="'present' or 'kernel'"):
        sparse_avg_pool(x, kmap, "other")
