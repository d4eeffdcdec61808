"""Relation-shape convolution against a loop over centres and neighbours that is written down from the
paper.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pointlift.nn.relation_shape import RelationShapeConv, relations


def make(channels: int, raised: int | None, aliasing: bool = False) -> RelationShapeConv:
    torch.manual_seed(0)
    layer = RelationShapeConv(6, 0.5, 7, channels, 11, 5, raised, aliasing)
    for norm in layer.modules():
        if isinstance(norm, nn.BatchNorm1d):
            assert norm.running_mean is not None and norm.running_var is not None
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
    return layer.double().eval()


def by_hand(
    layer: RelationShapeConv, xyz: Tensor, features: Tensor | None, aliasing: bool
) -> tuple[Tensor, Tensor]:
    """One cloud, in evaluation mode."""
    points = xyz.numpy()
    chosen = [0]
    while len(chosen) < layer.npoint:
        if len(chosen) == len(points):
            chosen = [i % len(points) for i in range(layer.npoint)]  # a small cloud, over and over
            break
        nearest = np.min([((points - points[c]) ** 2).sum(1) for c in chosen], axis=0)
        nearest[chosen] = -1
        chosen.append(int(nearest.argmax()))
    if len(points) < layer.npoint:
        chosen = [i % len(points) for i in range(layer.npoint)]
    out = []
    for i in chosen:
        hits = [j for j in range(len(points)) if ((points[j] - points[i]) ** 2).sum() < layer.radius**2][
            : layer.nsample
        ]
        weighed = []
        for j in [i, *hits]:
            delta = xyz[j] - xyz[i]
            absolute = [0 * delta, delta] if aliasing else [xyz[i], xyz[j]]
            relation = torch.cat([delta.square().sum().sqrt()[None], *absolute, delta])
            row = delta if features is None else torch.cat([delta, features[j]])
            if layer.lift is not None:
                row = layer.lift(row[None])[0]
            weighed.append(torch.relu(layer.norm((layer.mapping(relation[None])[0] * row)[None])[0]))
        out.append(layer.raising(torch.stack(weighed).max(0).values[None])[0])
    return xyz[chosen], torch.stack(out)


@pytest.mark.parametrize("aliasing", [False, True])
@pytest.mark.parametrize(("channels", "raised"), [(0, 4), (3, 4), (3, None)])
@torch.no_grad()
def test_equals_the_loop(channels: int, raised: int | None, aliasing: bool) -> None:
    layer = make(channels, raised, aliasing)
    generator = torch.Generator().manual_seed(1)
    sizes = (25, 4, 1)  # the last two have fewer points than centres and neighbours
    offsets = torch.tensor([0, *np.cumsum(sizes)], dtype=torch.int64)
    xyz = torch.rand(sum(sizes), 3, generator=generator, dtype=torch.float64)
    features = (
        torch.randn(sum(sizes), channels, generator=generator, dtype=torch.float64) if channels else None
    )
    centres, found, centre_offsets = layer(xyz, features, offsets)
    assert centre_offsets.tolist() == [0, 6, 12, 18]
    for b, (lo, hi) in enumerate(pairwise(offsets.tolist())):
        where, expected = by_hand(layer, xyz[lo:hi], None if features is None else features[lo:hi], aliasing)
        assert torch.equal(centres[6 * b : 6 * b + 6], where)
        assert torch.allclose(found[6 * b : 6 * b + 6], expected, rtol=1e-10, atol=1e-12)


def test_relations() -> None:
    centre, point = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[[1.0, 5.0, 7.0]]])
    assert relations(centre, point).tolist() == [[[5, 1, 2, 3, 1, 5, 7, 0, 3, 4]]]
    assert relations(centre, point, aliasing=True).tolist() == [[[5, 0, 0, 0, 0, 3, 4, 0, 3, 4]]]  # facts T41


@pytest.mark.parametrize("training", [True, False])
def test_gradcheck(training: bool) -> None:
    layer = make(3, 4).train(training)
    generator = torch.Generator().manual_seed(1)
    xyz = torch.rand(12, 3, generator=generator, dtype=torch.float64)
    features = torch.randn(12, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    names = [n for n, _ in layer.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in layer.parameters()]

    def call(features: Tensor, *given: Tensor) -> Tensor:
        out: Tensor = torch.func.functional_call(
            layer, dict(zip(names, given)), (xyz, features, torch.tensor([0, 7, 12]))
        )[1]
        return out

    assert torch.autograd.gradcheck(call, (features, *values), fast_mode=True)


def test_coinciding_points_have_finite_gradients() -> None:
    """The length of x_j - x_i has no gradient at zero, and the centre is always in its own group."""
    layer = make(3, 4).train()
    xyz = torch.zeros(8, 3, dtype=torch.float64, requires_grad=True)
    features = torch.randn(8, 3, dtype=torch.float64, requires_grad=True)
    layer(xyz, features, torch.tensor([0, 8]))[1].sum().backward()
    assert xyz.grad is not None and features.grad is not None
    assert bool(torch.isfinite(xyz.grad).all() & torch.isfinite(features.grad).all())


def test_errors() -> None:
    with pytest.raises(ValueError, match="nsample=0"):
        RelationShapeConv(4, 0.1, 0, 3, 8, 4)
