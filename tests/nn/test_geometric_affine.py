"""Geometric affine module and residual MLP of PointMLP against their equations;
one stage against a loop over centres.
"""

from __future__ import annotations

from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pointlift.core.sparse_tensor import PointBatch
from pointlift.models.points.pointmlp import Stage, pointmlp
from pointlift.nn.geometric_affine import GeometricAffine, ResidualMLP, Sigma


def made(module: nn.Module) -> nn.Module:
    """Everything away from its beginning, in evaluation mode."""
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d):
            assert part.running_mean is not None and part.running_var is not None
            part.running_mean.normal_(0, 0.1, generator=generator)
            part.running_var.uniform_(0.5, 1.5, generator=generator)
        elif isinstance(part, GeometricAffine):
            part.alpha.data.normal_(1, 0.3, generator=generator)
            part.beta.data.normal_(0, 0.3, generator=generator)
    return module.double().eval()


@pytest.mark.parametrize("sigma", ["sample", "batch"])
@torch.no_grad()
def test_geometric_affine(sigma: Sigma) -> None:
    layer = GeometricAffine(5, sigma)
    made(layer)
    x, anchor = torch.randn(3, 4, 6, 5, dtype=torch.float64), torch.randn(3, 4, 5, dtype=torch.float64)
    x[1] *= 10
    found = layer(x, anchor)
    everything = (x - anchor[:, :, None]).numpy()
    for b in range(3):
        entries = everything[b] if sigma == "sample" else everything
        expected = layer.alpha.numpy() * everything[b] / (np.std(entries, ddof=1) + 1e-5) + layer.beta.numpy()
        np.testing.assert_allclose(found[b].numpy(), expected, rtol=1e-12, atol=1e-14)


def test_gradcheck() -> None:
    for sigma in get_args(Sigma):
        layer = made(GeometricAffine(3, sigma))
        x = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
        anchor = torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)
        parameters = [p.detach().clone().requires_grad_() for p in layer.parameters()]

        def call(x: Tensor, anchor: Tensor, alpha: Tensor, beta: Tensor, layer: nn.Module = layer) -> Tensor:
            out: Tensor = torch.func.functional_call(layer, {"alpha": alpha, "beta": beta}, (x, anchor))
            return out

        assert torch.autograd.gradcheck(call, (x, anchor, *parameters))
    block = made(ResidualMLP(4, 3)).train()
    assert torch.autograd.gradcheck(block, torch.randn(6, 4, dtype=torch.float64, requires_grad=True))


def test_coinciding_points_have_finite_gradients() -> None:
    layer = GeometricAffine(3)
    x, anchor = torch.ones(1, 2, 4, 3, requires_grad=True), torch.ones(1, 2, 3, requires_grad=True)
    out = layer(x, anchor)
    out.sum().backward()
    assert (
        torch.equal(out, torch.zeros_like(out)) and x.grad is not None and bool(torch.isfinite(x.grad).all())
    )


@pytest.mark.parametrize("sigma", ["sample", "batch"])
@pytest.mark.parametrize("noise", [0.0, 1e-8])
def test_clouds_of_one_repeated_point_do_not_blow_up_gradients(sigma: Sigma, noise: float) -> None:
    """Four stages with a slope of 1e5 each would make 1e20 of it; rounding leaves 1e-8 between rows that are
    equal. The other clouds' gradients are what they are without it."""
    torch.manual_seed(0)
    net = pointmlp(num_classes=3, width=8, npoint=(16, 8, 4, 2), k=4, sigma=sigma)
    one, others = (
        [torch.full((24, 3), 0.3) + noise * torch.randn(24, 3) for _ in range(2)],
        [torch.rand(24, 3) for _ in range(2)],
    )

    def gradients(clouds: list[Tensor]) -> float:
        net.zero_grad()
        logits = net.train()(PointBatch.from_list(clouds))
        nn.functional.cross_entropy(logits, torch.arange(len(clouds)) % 3).backward()
        return float(
            torch.stack([p.grad.double().norm() for p in net.parameters() if p.grad is not None]).norm()
        )

    normal = gradients([*others, *(torch.rand(24, 3) for _ in range(2))])
    assert 1 < normal < 1e4
    assert (
        gradients([*others, *one]) < 100 * normal
        and gradients([torch.rand(1, 3).expand(24, 3) for _ in range(4)]) < 1e5 * normal
    )


def test_only_coinciding_points_lose_their_gradient() -> None:
    layer, loose = GeometricAffine(2), GeometricAffine(2)
    x, anchor = torch.randn(2, 3, 4, 2, requires_grad=True), torch.randn(2, 3, 2, requires_grad=True)
    # the second cloud's points are its anchors
    same = torch.cat([x[:1], anchor[1:, :, None].expand(1, 3, 4, 2)])
    out = layer(same, anchor)
    out.square().sum().backward()
    assert x.grad is not None and anchor.grad is not None and layer.beta.grad is not None
    found, moved = x.grad.clone(), anchor.grad.clone()
    x.grad = anchor.grad = None
    loose(x[:1], anchor[:1]).square().sum().backward()
    torch.testing.assert_close(found, x.grad)
    torch.testing.assert_close(moved, anchor.grad)
    assert (
        torch.equal(out[1], torch.zeros_like(out[1])) and bool((moved[1] == 0).all()) and bool(moved[0].any())
    )


@torch.no_grad()
def test_stage_equals_the_loop_over_centres() -> None:
    torch.manual_seed(0)
    stage = Stage(5, 4, 6, 8, 2, 1, 3, "sample")
    made(stage)
    sizes = (20, 3)  # the second has fewer points than centres and neighbours
    offsets = torch.tensor([0, *np.cumsum(sizes)], dtype=torch.int64)
    xyz, features = torch.rand(23, 3, dtype=torch.float64), torch.randn(23, 6, dtype=torch.float64)
    centres, found, _ = stage(xyz, features, offsets)
    for b, (lo, hi) in enumerate(pairwise(offsets.tolist())):
        mine, f = xyz[lo:hi], features[lo:hi]
        # sampling has its own tests
        chosen = [int((mine == c).all(1).nonzero()[0]) for c in centres[5 * b : 5 * b + 5]]
        assert chosen[0] == 0
        order = [(mine - mine[i]).square().sum(1).argsort()[:4].tolist() for i in chosen]
        order = [(near * 4)[:4] for near in order]
        sigma = np.std([(f[j] - f[i]).numpy() for i, near in zip(chosen, order) for j in near], ddof=1)
        for row, (i, near) in enumerate(zip(chosen, order)):
            normal = [stage.affine.alpha * (f[j] - f[i]) / (sigma + 1e-5) + stage.affine.beta for j in near]
            rows = stage.transfer(torch.stack([torch.cat([n, f[i]]) for n in normal]))
            group = stage.pre(torch.relu(stage.norm(rows))).max(0).values
            assert torch.allclose(found[5 * b + row], stage.pos(group[None])[0], rtol=1e-9, atol=1e-11)


@torch.no_grad()
def test_residual_mlp() -> None:
    block = made(ResidualMLP(6, 2))
    x = torch.randn(7, 6, dtype=torch.float64)
    down, norm1, _, up, norm2 = block.layers  # type: ignore[misc]
    assert torch.equal(block(x), torch.relu(norm2(up(torch.relu(norm1(down(x))))) + x))


def test_errors() -> None:
    with pytest.raises(ValueError, match="sample or batch"):
        GeometricAffine(3, "cloud")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one entry per cloud"):
        GeometricAffine(1)(torch.ones(2, 1, 1, 1), torch.ones(2, 1, 1))
