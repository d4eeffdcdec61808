"""Maximum and sum over neighbourhoods: against the tensor of all neighbours, gradients, NaN, errors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pointlift.ops.backend import Backend
from pointlift.ops.neighbor_pool import neighbor_max, neighbor_sum
from pointlift.ops.neighbors import group

BACKENDS: tuple[Backend, ...] = ("reference", "cpu")


def data(rows: int = 50, queries: int = 70, k: int = 6, channels: int = 19) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(rows, channels, generator=generator, dtype=torch.float64)
    # the last five rows are nobody's neighbours
    return features, torch.randint(rows - 5, (queries, k), generator=generator)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("pool", ["max", "sum"])
def test_equals_pooling_all_neighbours(backend: Backend, pool: str) -> None:
    features, index = data()
    features.requires_grad_()
    rows = group(features, index)
    expected = rows.max(1).values if pool == "max" else rows.sum(1)
    found = (neighbor_max if pool == "max" else neighbor_sum)(features, index, backend)
    assert torch.allclose(found, expected, rtol=1e-14)
    weight = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (a,), (b,) = (torch.autograd.grad((out * weight).sum(), features) for out in (found, expected))
    # sums of the same numbers in another order
    assert torch.allclose(a, b, rtol=1e-12, atol=1e-13) and bool((a[-5:] == 0).all())


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradcheck(backend: Backend) -> None:
    features, index = data(8, 7, 3, 4)
    features.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: neighbor_max(x, index % 8, backend), features)
    assert torch.autograd.gradcheck(lambda x: neighbor_sum(x, index % 8, backend), features)


@pytest.mark.parametrize("backend", BACKENDS)
def test_ties_and_nan(backend: Backend) -> None:
    features = torch.tensor([[1.0, 2.0], [1.0, 0.0], [float("nan"), 5.0]], requires_grad=True)
    out = neighbor_max(features, torch.tensor([[1, 0], [0, 1], [0, 2], [2, 0]]), backend)
    assert out[:2].tolist() == [[1, 2], [1, 2]] and out[2:, 0].isnan().all() and out[2:, 1].tolist() == [5, 5]
    (grad,) = torch.autograd.grad(out[:1].sum(), features)
    assert grad.tolist() == [[0, 1], [1, 0], [0, 0]]  # the first of two equals


def test_no_memory_is_read_before_it_is_written(request: pytest.FixtureRequest) -> None:
    features, index = data()
    features.requires_grad_()

    def results() -> list[Tensor]:
        out = [pool(features, index, "cpu") for pool in (neighbor_max, neighbor_sum)]
        return [*out, *(torch.autograd.grad(o.sum(), features)[0] for o in out)]

    expected = results()  # compiles
    request.getfixturevalue("poisoned")
    assert all(torch.equal(a, b) for a, b in zip(results(), expected))


def test_bad_input() -> None:
    features = torch.ones(3, 2)
    for pool in (neighbor_max, neighbor_sum):
        with pytest.raises(ValueError, match="names row 3"):
            pool(features, torch.tensor([[3]]))
        with pytest.raises(ValueError, match="at least one neighbour"):
            pool(features, torch.zeros(3, 0, dtype=torch.int64))
        with pytest.raises(ValueError, match="index must be int64"):
            pool(features, torch.zeros(3, 1))
        with pytest.raises(ValueError, match="floats of shape"):
            pool(torch.ones(3), torch.zeros(3, 1, dtype=torch.int64))
