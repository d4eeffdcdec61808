"""The students of PointCMT beside PointNet++: parameter counts, ragged batches, small clouds, order,
regimes, and that they learn.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from random_clouds import batch, clouds, parameters
from torch import nn

from pointlift.core.sparse_tensor import PointBatch
from pointlift.data.dataset import CloudDataset, collate
from pointlift.data.procedural.shapes import make_shapes
from pointlift.data.sample import Sample
from pointlift.data.transforms import unit_sphere
from pointlift.inflation import set_finetune
from pointlift.models.points.dgcnn import DGCNN
from pointlift.models.points.pointmlp import PointMLP, pointmlp_elite
from pointlift.models.points.rscnn import RSCNN
from pointlift.nn import CloudNetwork

SMALL: dict[Callable[..., CloudNetwork], dict[str, Any]] = {
    DGCNN: {"k": 8, "widths": (8, 16), "embedding": 32, "head": (24,)},
    RSCNN: {
        "npoint": (40, 12),
        "radii": (0.4, 0.8),
        "nsample": (12, 8),
        "widths": (16, 32),
        "raised": 8,
        "embedding": 48,
        "head": (24,),
    },
    PointMLP: {
        "width": 8,
        "npoint": (40, 12),
        "k": 8,
        "expansion": (2, 2),
        "pre_blocks": (1, 1),
        "pos_blocks": (1, 1),
        "residual_expansion": 0.5,
        "head": (24,),
    },
}
every_student = pytest.mark.parametrize("build", SMALL, ids=lambda build: build.__name__)


@torch.no_grad()
def moved(net: CloudNetwork) -> CloudNetwork:
    """In evaluation mode, with the statistics of a batch and other weights of the normalisations,
    so that none is the identity.
    """
    generator = torch.Generator().manual_seed(1)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm1d)]
    for norm in norms:
        norm.weight.uniform_(0.7, 1.2, generator=generator)
        norm.bias.uniform_(-0.3, 0.3, generator=generator)
        norm.momentum = 1.0
    net.train()(batch(clouds(64, 50, 40, channels=net.in_channels - 3, seed=9)))
    return net.eval()


def test_parameter_counts() -> None:
    # facts 5.3 to 5.5 and "assertable numbers"; with PointCMT's head as table 1 of PointCMT has them
    # (facts 4.6, T40)
    assert parameters(DGCNN()) == 1_809_576
    assert parameters(DGCNN(head=(512,))) == 1_687_976
    assert parameters(RSCNN()) == 1_289_505
    assert parameters(RSCNN(head=(512,))) == 1_168_161
    assert parameters(PointMLP()) == 13_238_504
    assert parameters(PointMLP(num_classes=15)) == 13_232_079
    # without the layer of 256
    assert parameters(PointMLP(head=(512,))) == 13_238_504 - (512 * 256 + 3 * 256) + 256 * 40
    assert parameters(pointmlp_elite()) == 716_232
    assert parameters(pointmlp_elite(num_classes=15)) == 709_807


@every_student
@torch.no_grad()
def test_a_batch_of_any_sizes_is_every_cloud_alone(build: Callable[..., CloudNetwork]) -> None:
    torch.manual_seed(0)
    net = moved(build(in_channels=5, **SMALL[build]))
    # more points than centres and neighbours, fewer, and one; and all of one size
    for sizes in ((90, 24, 23, 3, 1), (60, 60, 60)):
        parts = clouds(*sizes, channels=2)
        together = net(batch(parts))
        assert together.shape == (len(sizes), 40) and bool(torch.isfinite(together).all())
        alone = torch.cat([net(batch([part])) for part in parts])
        # matrix products of other sizes add up in another order
        assert torch.allclose(together, alone, atol=1e-5)


@every_student
@torch.no_grad()
def test_the_order_of_points_does_not_matter(build: Callable[..., CloudNetwork]) -> None:
    """But for the first, where farthest point sampling begins;
    and balls must hold all their points, of which queries take the first.
    """
    torch.manual_seed(0)
    net = moved(build(**{**SMALL[build], **({"nsample": (80, 40)} if build is RSCNN else {})}))
    ((xyz, _),) = clouds(80)
    order = torch.cat([torch.zeros(1, dtype=torch.int64), torch.randperm(79) + 1])
    one, other, larger = (net(PointBatch.from_list([x])) for x in (xyz, xyz[order], 1.1 * xyz))
    # maxima do not depend on the order, sums do in the last digits
    assert torch.allclose(one, other, atol=1e-5)
    assert not torch.allclose(one, larger, atol=1e-3)


@every_student
@torch.no_grad()
def test_features_behind_the_coordinates_are_seen_and_coordinates_come_from_xyz(
    build: Callable[..., CloudNetwork],
) -> None:
    torch.manual_seed(0)
    net = moved(build(in_channels=5, **SMALL[build]))
    ((xyz, features),) = clouds(60, channels=2)
    assert features is not None
    reference = net(PointBatch.from_list([xyz], [features]))
    other_xyz, other_extra = features.clone(), features.clone()
    other_xyz[:, :3] += 1
    other_extra[:, 3:] += 3
    assert torch.equal(net(PointBatch.from_list([xyz], [other_xyz])), reference)
    assert not torch.allclose(net(PointBatch.from_list([xyz], [other_extra])), reference, atol=1e-3)
    plain = moved(build(**SMALL[build]))  # three channels: nothing beside the coordinates
    assert torch.equal(plain(PointBatch.from_list([xyz], [other_extra])), plain(PointBatch.from_list([xyz])))


@every_student
def test_arguments_build_the_same_network(build: Callable[..., CloudNetwork]) -> None:
    for changes in ({}, {**SMALL[build], "in_channels": 6, "num_classes": 3, "dropout": 0.1}):
        net = build(**changes)
        again = type(net)(**json.loads(json.dumps(net.arguments)))
        assert again.arguments == net.arguments
        again.load_state_dict(net.state_dict())  # strict


@every_student
def test_regimes(build: Callable[..., CloudNetwork]) -> None:
    net = build(**SMALL[build])
    set_finetune(net, "io")
    learns = {n for n, p in net.named_parameters() if p.requires_grad}
    inside = tuple(f"{m}." for m in (*net.input_modules, "head"))
    assert learns == {n for n, _ in net.named_parameters() if n.startswith(inside) and n not in net.fixed}
    assert all(any(n.startswith(m) for n in learns) for m in inside)
    frozen = {n: b.clone() for n, b in net.named_buffers() if net.in_backbone(n)}
    net.train()
    net(batch(clouds(40, 30))).square().sum().backward()
    # statistics stand still
    assert all(torch.equal(b, frozen[n]) for n, b in net.named_buffers() if net.in_backbone(n))
    assert {n for n, p in net.named_parameters() if p.grad is not None} == learns
    set_finetune(net, "io+stats")
    net.train()
    net(batch(clouds(40, 30)))
    moving = {
        n
        for n, b in net.named_buffers()
        if n in frozen and n.endswith("running_var") and not torch.equal(b, frozen[n])
    }
    assert moving == {
        n for n in frozen if n.endswith("running_var") and n.replace("running_var", "weight") not in net.fixed
    }
    before = {n: p.clone() for n, p in net.named_parameters() if p.ndim > 1}
    assert set_finetune(net, "scratch", seed=1).trainable == parameters(net) - sum(
        net.get_parameter(n).numel() for n in net.fixed
    )
    assert not any(torch.equal(before[n], p) for n, p in net.named_parameters() if n in before)


@every_student
def test_every_parameter_gets_a_gradient(build: Callable[..., CloudNetwork]) -> None:
    torch.manual_seed(0)
    net = build(**SMALL[build])
    net(batch(clouds(50, 40, 2))).square().sum().backward()
    for name, p in net.named_parameters():
        if name not in net.fixed:
            assert p.grad is not None and bool(torch.isfinite(p.grad).all()) and bool(p.grad.ne(0).any()), (
                name
            )


@torch.no_grad()
def test_options_of_released_code() -> None:
    """RS-CNN's aliasing and PointMLP's sigma over the batch are other functions of the same weights."""
    torch.manual_seed(0)
    parts = clouds(60, 50)
    correct, aliased = (moved(RSCNN(aliasing=aliasing, **SMALL[RSCNN])) for aliasing in (False, True))
    aliased.load_state_dict(correct.state_dict())
    assert not torch.allclose(correct(batch(parts)), aliased(batch(parts)), atol=1e-3)
    # without absolute coordinates only the global layer sees where a cloud lies
    shifted = PointBatch.from_list([x + 1 for x, _ in parts])
    for net, moves in ((correct, True), (aliased, False)):
        _, one, _ = net.levels[0](batch(parts).xyz, None, shifted.offsets)  # type: ignore[operator, index]
        _, other, _ = net.levels[0](shifted.xyz, None, shifted.offsets)  # type: ignore[operator, index]
        assert torch.allclose(one, other, atol=1e-4) != moves
    early = moved(PointMLP(sigma="batch", **SMALL[PointMLP]))
    near, far = parts[0], (parts[1][0] * 9, None)
    # why it is not the default
    assert not torch.allclose(early(batch([near, far]))[0], early(batch([near]))[0], atol=1e-3)


def normalised(dataset: CloudDataset) -> list[Sample]:
    return [
        replace(sample, xyz=unit_sphere(sample.xyz)) for sample in (dataset[i] for i in range(len(dataset)))
    ]


@every_student
def test_it_learns_shapes(build: Callable[..., CloudNetwork]) -> None:
    """A few steps on four classes of embedded shapes: far above chance on unseen objects.
    (Four classes suffice.)
    """
    classes = ("aeroplane", "bottle", "chair", "table")
    train, test = (
        normalised(make_shapes(n, 96, seed, split, 0.0, classes))
        for n, seed, split in ((24, 0, "train"), (10, 0, "test"))
    )
    torch.manual_seed(0)
    net = build(num_classes=4, dropout=0.0, **SMALL[build])
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(12):
        order = torch.randperm(len(train), generator=generator).tolist()
        for i in range(0, len(order), 16):
            chosen = collate([train[j] for j in order[i : i + 16]])
            loss = nn.functional.cross_entropy(net(chosen), chosen.labels["class"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    net.eval()
    with torch.no_grad():
        seen, unseen = (collate(samples) for samples in (train, test))
        right = [
            float((net(samples).argmax(1) == samples.labels["class"]).float().mean())
            for samples in (seen, unseen)
        ]
    assert right[0] > 0.85 and right[1] > 0.55, right  # chance is 0.25


@pytest.mark.parametrize(
    ("build", "changes", "words"),
    [
        (DGCNN, {"in_channels": 2}, "3 channels or more"),
        (DGCNN, {"k": 0}, "k=0"),
        (DGCNN, {"widths": ()}, "positive widths"),
        (DGCNN, {"dropout": 1.0}, "dropout=1.0"),
        (DGCNN, {"slope": 2}, "slope=2"),
        (RSCNN, {"in_channels": 2}, "3 channels or more"),
        (RSCNN, {"radii": (0.1,)}, "one of each per level"),
        (RSCNN, {"radii": (0.1, -1.0)}, "radius=-1.0"),
        (RSCNN, {"widths": (3, 16)}, "widths of at least 4"),
        (RSCNN, {"npoint": (0, 12)}, "npoint=0"),
        (PointMLP, {"in_channels": 2}, "3 channels or more"),
        (PointMLP, {"expansion": (2,)}, "one of each per stage"),
        (PointMLP, {"pre_blocks": (-1, 1)}, "no negative number of blocks"),
        (PointMLP, {"residual_expansion": 0.0}, "at least one hidden channel"),
        (PointMLP, {"sigma": "class"}, "sample or batch"),
    ],
)
def test_bad_arguments(build: Callable[..., CloudNetwork], changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build(**{**SMALL[build], **changes})


@every_student
def test_bad_clouds(build: Callable[..., CloudNetwork]) -> None:
    net = build(in_channels=6, **SMALL[build])
    xyz = torch.rand(30, 3)
    with pytest.raises(ValueError, match="takes features of 6 channels that start with xyz, got none"):
        net(PointBatch.from_list([xyz, xyz]))
    plain = build(**SMALL[build])
    with pytest.raises(ValueError, match="cloud 1 of 2 has no points"):
        plain(PointBatch.from_list([xyz, torch.zeros(0, 3)]))
    with pytest.raises(ValueError, match="1 cloud in training mode"):
        plain(PointBatch.from_list([xyz]))
    with pytest.raises(ValueError, match="got a batch of 0 clouds, expected at least one"):
        plain(PointBatch.from_list([]))
    with pytest.raises(ValueError, match="NaN or infinite"):
        plain(PointBatch.from_list([xyz, xyz / 0]))
