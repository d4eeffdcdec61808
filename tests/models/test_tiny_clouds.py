"""Every student of PointCMT, by its name: clouds of a few points, one, or none,
and numbers that are none, evaluating and training.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from random_clouds import batch, clouds
from torch import Tensor, nn

from pointlift.core.sparse_tensor import PointBatch
from pointlift.models import create_model

# more centres and neighbours in every layer than the clouds here have points;
# otherwise narrow, as widths do not matter
BALLS: dict[str, Any] = {"npoint": (24, 8), "global_mlp": (32, 48), "head": (24,)}
RESIDUAL: dict[str, Any] = {"width": 8, "npoint": (24, 12, 8, 8), "k": 8, "head": (24,)}
STUDENTS: dict[str, dict[str, Any]] = {
    "pointnet2-ssg": {**BALLS, "radii": (0.3, 0.6), "nsample": (12, 8), "mlps": ((8, 16), (16, 32))},
    "pointnet2-msg": {
        **BALLS, "radii": ((0.2, 0.5), (0.4, 0.8)), "nsample": ((8, 12), (8, 12)),
        "mlps": (((8, 8), (8, 16)), ((16, 16), (16, 32))),
    },
    "dgcnn": {"k": 8, "widths": (8, 16), "embedding": 32, "head": (24,)},
    "rscnn": {"npoint": (24, 12), "radii": (0.4, 0.8), "nsample": (12, 8), "widths": (16, 32), "raised": 8,
              "embedding": 48, "head": (24,)},
    "pointmlp": RESIDUAL,
    "pointmlp-elite": RESIDUAL,
}  # fmt: skip
every_student = pytest.mark.parametrize("name", STUDENTS)


def student(name: str, in_channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return create_model(name, num_classes=4, in_channels=in_channels, seed=0, **STUDENTS[name])


def all_finite(tensors: list[Tensor]) -> bool:
    return all(bool(torch.isfinite(t).all()) for t in tensors)


@every_student
@pytest.mark.parametrize("channels", [0, 2])
def test_five_points_and_one(name: str, channels: int) -> None:
    """Finite while it trains, with finite gradients and statistics;
    and evaluated, each cloud is what it is alone.
    """
    net = student(name, 3 + channels)
    parts = clouds(30, 5, 1, channels=channels)
    same = (parts[1][0][:1].expand(5, 3), None if parts[1][1] is None else parts[1][1][:1].expand(5, -1))
    # with a usual cloud, none, and one whose five points are one
    for chosen in (parts, parts[1:], [*parts, same]):
        net.train().zero_grad()
        logits = net(batch(chosen))
        nn.functional.cross_entropy(logits, torch.arange(len(chosen))).backward()
        assert logits.shape == (len(chosen), 4) and all_finite([logits])
        gradients = [p.grad for p in net.parameters() if p.grad is not None]
        assert gradients and all_finite(gradients) and all_finite(list(net.buffers()))
    net.eval()
    with torch.no_grad():
        together, alone = net(batch(parts)), torch.cat([net(batch([part])) for part in parts])
    # products of other sizes add up otherwise
    assert all_finite([together]) and torch.allclose(together, alone, rtol=1e-4, atol=1e-4)


@every_student
@torch.no_grad()
def test_one_point_is_that_point_repeated(name: str) -> None:
    """A network that fills up with the cloud's own points says the same of a point and of as many copies of
    it as it asks for.
    """
    net = student(name).eval()
    ((point, _),) = clouds(1)
    one, many = net(batch([(point, None)])), net(batch([(point.expand(24, 3), None)]))
    assert all_finite([one]) and torch.allclose(one, many, atol=1e-5)


@every_student
@pytest.mark.parametrize("training", [False, True])
def test_no_points_and_numbers_that_are_none_are_refused(name: str, training: bool) -> None:
    net = student(name, 6).train(training)
    parts = clouds(30, 5, 1, channels=3)
    empty = (torch.zeros(0, 3), torch.zeros(0, 6))
    with pytest.raises(
        ValueError, match="cloud 1 of 4 has no points, expected at least one: leave empty clouds out"
    ):
        net(batch([parts[0], empty, *parts[1:]]))
    for value in (float("nan"), float("inf"), -float("inf")):
        xyz, features = (torch.cat([p[i] for p in parts]).clone() for i in (0, 1))  # type: ignore[misc]
        xyz[31, 1] = features[31, 4] = value
        with pytest.raises(
            ValueError, match=r"1 of 36 points have NaN or infinite coordinates \(first: row 31\)"
        ):
            PointBatch(xyz, None, torch.tensor([0, 30, 35, 36]))
        spoilt = PointBatch(torch.cat([p[0] for p in parts]), features, torch.tensor([0, 30, 35, 36]))
        with pytest.raises(
            ValueError,
            match=r"1 of 36 points have NaN or infinite features \(first: row 31\), expected numbers: remove",
        ):
            net(spoilt)
