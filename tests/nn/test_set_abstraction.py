"""Set abstraction against a loop over centres that is written down from the paper."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pointlift.nn.set_abstraction import GlobalSetAbstraction, SetAbstraction, shared_mlp


def ragged(sizes: tuple[int, ...], channels: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Clouds in the unit cube with random features, and their offsets."""
    generator = torch.Generator().manual_seed(seed)
    n = sum(sizes)
    offsets = torch.tensor([0, *np.cumsum(sizes)], dtype=torch.int64)
    return torch.rand(n, 3, generator=generator), torch.randn(n, channels, generator=generator), offsets


def moved_statistics(module: nn.Module) -> nn.Module:
    """Normalisations as after some training, in evaluation mode, so that none of them is the identity."""
    generator = torch.Generator().manual_seed(1)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm1d):
            assert norm.running_mean is not None and norm.running_var is not None
            norm.running_mean.copy_(torch.randn(norm.num_features, generator=generator) * 0.1)
            norm.running_var.copy_(torch.rand(norm.num_features, generator=generator) + 0.5)
    return module.eval()


def spread(xyz: np.ndarray, n: int, start: int) -> list[int]:
    """Farthest point sampling; a cloud that is too small gives its points in their order, over and over."""
    if len(xyz) < n:
        return [(start + i) % len(xyz) for i in range(n)]
    chosen = [start]
    while len(chosen) < n:
        nearest = np.min([((xyz - xyz[c]) ** 2).sum(1) for c in chosen], axis=0)
        nearest[chosen] = -1
        chosen.append(int(nearest.argmax()))
    return chosen


def by_hand(
    level: SetAbstraction, xyz: Tensor, features: Tensor | None, start: int = 0
) -> tuple[Tensor, Tensor]:
    """One cloud: centres and features."""
    points = xyz.numpy()
    centres = spread(points, level.npoint, start)
    out = []
    for c in centres:
        scales = []
        for radius, nsample, mlp in zip(level.radii, level.nsample, level.mlps):
            hits = [j for j in range(len(points)) if ((points[j] - points[c]) ** 2).sum() < radius**2][
                :nsample
            ]
            hits += [hits[0]] * (nsample - len(hits))
            rows = xyz[hits] - xyz[c]
            rows = rows if features is None else torch.cat([rows, features[hits]], 1)
            scales.append(mlp(rows).max(0).values)
        out.append(torch.cat(scales))
    return xyz[centres], torch.stack(out)


@pytest.mark.parametrize("channels", [0, 5])
@pytest.mark.parametrize("start", [0, 2])
@torch.no_grad()
def test_equals_the_loop_over_centres(channels: int, start: int) -> None:
    torch.manual_seed(0)
    level = SetAbstraction(8, (0.3, 0.7), (4, 9), ((6, 7), (5, 8)), channels)
    moved_statistics(level)
    sizes = (40, 5, 23)  # the second has fewer points than centres and neighbours
    xyz, features, offsets = ragged(sizes, channels)
    given = features if channels else None
    centres, found, centre_offsets = level(xyz, given, offsets, start)
    assert centre_offsets.tolist() == [0, 8, 16, 24] and found.shape == (24, 15) == (24, level.out_channels)
    for b, (lo, hi) in enumerate(pairwise(offsets)):
        one = by_hand(level, xyz[lo:hi], None if given is None else given[lo:hi], start)
        assert torch.equal(centres[8 * b : 8 * b + 8], one[0])
        # float32, sums of at most 8 products
        assert torch.allclose(found[8 * b : 8 * b + 8], one[1], atol=1e-6)


@torch.no_grad()
def test_a_shift_changes_centres_only() -> None:
    level = SetAbstraction(6, (0.5,), (8,), ((4, 4),), 0).eval()
    xyz, _, offsets = ragged((30,), 0)
    xyz = (xyz * 64).round() / 64  # exact in float32 wherever the cloud lies
    centres, features, _ = level(xyz, None, offsets)
    moved, same, _ = level(xyz + 4, None, offsets)
    assert torch.equal(moved, centres + 4) and torch.equal(same, features)


def test_gradients_reach_features_of_every_chosen_point() -> None:
    torch.manual_seed(0)
    level = SetAbstraction(4, (10.0,), (3,), ((8,),), 2)
    xyz, features, offsets = ragged((6, 6), 2)
    features.requires_grad_()
    level(xyz, features, offsets)[1].square().sum().backward()
    assert features.grad is not None
    reached = features.grad.abs().sum(1) > 0
    # a ball that holds all takes the first three rows
    assert not bool(reached[3:6].any()) and not bool(reached[9:].any())
    assert int(reached.sum()) >= 2


@torch.no_grad()
def test_global_set_abstraction_of_ragged_and_equal_clouds() -> None:
    torch.manual_seed(0)
    whole = GlobalSetAbstraction(4, (6, 7))
    moved_statistics(whole)
    for sizes in ((5, 1, 9), (4, 4, 4)):
        xyz, features, offsets = ragged(sizes, 4)
        expected = [
            whole.mlp(torch.cat([xyz[a:b], features[a:b]], 1)).max(0).values for a, b in pairwise(offsets)
        ]
        assert torch.allclose(whole(xyz, features, offsets), torch.stack(expected), atol=1e-6)
    with pytest.raises(ValueError, match="cloud 1 is empty"):
        whole(xyz[:4], features[:4], torch.tensor([0, 4, 4]))


def test_shared_mlp_counts() -> None:
    count = sum(p.numel() for p in shared_mlp(3, (64, 64, 128)).parameters())
    assert count == 3 * 64 + 64 * 64 + 64 * 128 + 2 * (64 + 64 + 128)
    assert (
        sum(p.numel() for p in shared_mlp(3, (64, 64, 128), bias=True).parameters()) == count + 64 + 64 + 128
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"radii": (0.1, 0.2)}, "2 radii, 1 nsample"),
        ({"radii": (0.0,)}, "positive"),
        ({"npoint": 0}, "npoint=0"),
        ({"mlps": ((),)}, "at least one width"),
    ],
)
def test_bad_scales(changes: dict, words: str) -> None:
    arguments: dict = {
        "npoint": 4,
        "radii": (0.1,),
        "nsample": (4,),
        "mlps": ((4,),),
        "in_channels": 0,
        **changes,
    }
    with pytest.raises(ValueError, match=words):
        SetAbstraction(**arguments)
