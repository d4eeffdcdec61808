"""Feature propagation against the equation, point by point."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pointlift.nn.feature_propagation import FeaturePropagation


def literal(xyz: Tensor, skip: Tensor, coarse: Tensor, features: Tensor) -> Tensor:
    """Equation 2 of PointNet++ with p = 2, k = 3, for one cloud;
    a cloud with fewer coarse points uses those.
    """
    rows = []
    for x, own in zip(xyz.double(), skip.double()):
        squared = ((coarse.double() - x) ** 2).sum(1)
        near = squared.argsort()[:3]
        weight = 1 / (squared[near] + 1e-8)
        rows.append(torch.cat([(features.double()[near] * (weight / weight.sum())[:, None]).sum(0), own]))
    return torch.stack(rows)


@pytest.mark.parametrize("coarse_sizes", [(9, 4), (2, 1)])
def test_against_the_equation(coarse_sizes: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = FeaturePropagation(5, 2, (7, 6)).eval()
    fine_sizes = (20, 11)
    xyz, skip = torch.randn(sum(fine_sizes), 3), torch.randn(sum(fine_sizes), 2)
    coarse, features = torch.randn(sum(coarse_sizes), 3), torch.randn(sum(coarse_sizes), 5)
    offsets, coarse_offsets = (torch.tensor([0, a, a + b]) for a, b in (fine_sizes, coarse_sizes))
    out = layer(xyz, offsets, skip, coarse, features, coarse_offsets)
    rows = [
        literal(*parts)
        for parts in zip(
            xyz.split(fine_sizes),
            skip.split(fine_sizes),
            coarse.split(coarse_sizes),
            features.split(coarse_sizes),
        )
    ]
    expected = layer.mlp(torch.cat(rows).float())
    assert out.shape == (31, 6) and torch.allclose(out, expected, atol=1e-5)  # float32 distances


def test_one_feature_per_cloud_goes_to_all_its_points() -> None:
    torch.manual_seed(0)
    layer = FeaturePropagation(4, 0, (3,)).eval()
    features, offsets = torch.randn(2, 4), torch.tensor([0, 3, 5])
    out = layer(torch.randn(5, 3), offsets, None, None, features, torch.tensor([0, 1, 2]))
    assert torch.equal(out, layer.mlp(features[[0, 0, 0, 1, 1]]))


def test_gradients_reach_coarse_and_fine_features() -> None:
    torch.manual_seed(0)
    layer = FeaturePropagation(4, 2, (3,))
    features, skip = torch.randn(6, 4, requires_grad=True), torch.randn(8, 2, requires_grad=True)
    layer(
        torch.randn(8, 3), torch.tensor([0, 8]), skip, torch.randn(6, 3), features, torch.tensor([0, 6])
    ).square().sum().backward()
    assert (
        features.grad is not None
        and skip.grad is not None
        and bool(skip.grad.any())
        and bool(features.grad.any())
    )


def test_without_an_mlp_the_features_are_those_that_were_there() -> None:
    layer = FeaturePropagation(2, 3, ())
    xyz, skip = torch.rand(6, 3), torch.rand(6, 3)
    out = layer(xyz, torch.tensor([0, 6]), skip, xyz[:1], torch.tensor([[5.0, 7.0]]), torch.tensor([0, 1]))
    assert layer.out_channels == 5 == out.shape[1] and torch.equal(out[:, 2:], skip)
    torch.testing.assert_close(out[:, :2], torch.tensor([[5.0, 7.0]]).expand(6, 2))


def test_bad_input() -> None:
    for arguments in ((0, 1, (3,)), (1, -1, (3,)), (1, 1, (0,))):
        with pytest.raises(ValueError, match="positive"):
            FeaturePropagation(*arguments)
    layer = FeaturePropagation(4, 2, (3,)).eval()
    with pytest.raises(ValueError, match="none, expected 2 channels"):
        layer(torch.randn(5, 3), torch.tensor([0, 5]), None, None, torch.randn(1, 4), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="3 channels, expected 2"):
        layer(
            torch.randn(5, 3),
            torch.tensor([0, 5]),
            torch.randn(5, 3),
            None,
            torch.randn(1, 4),
            torch.tensor([0, 1]),
        )
