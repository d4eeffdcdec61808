"""PointNet++: parameter counts, ragged batches, small clouds, regimes, and that it learns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from random_clouds import batch, clouds, parameters
from torch import Tensor, nn

from pointlift.core.sparse_tensor import PointBatch
from pointlift.data.dataset import CloudDataset, collate
from pointlift.data.procedural.shapes import make_shapes
from pointlift.data.sample import Sample
from pointlift.data.transforms import unit_sphere
from pointlift.inflation import set_finetune
from pointlift.models import create_model
from pointlift.models.points.pointnet2 import PointNet2, pointnet2_msg

SMALL: dict[str, Any] = {
    "npoint": (24, 8),
    "radii": (0.3, 0.6),
    "nsample": (12, 8),
    "mlps": ((8, 16), (16, 32)),
    "global_mlp": (32, 48),
    "head": (24,),
}


def test_parameter_counts() -> None:
    # facts 5.1, 5.2 and "assertable numbers"; published as 1.48 M and 1.74 M
    assert parameters(PointNet2()) == parameters(create_model("pointnet2-ssg")) == 1_472_360
    assert parameters(PointNet2(bias=True)) == 1_475_688
    assert parameters(PointNet2(in_channels=6, bias=True)) == 1_475_880  # with normals
    assert parameters(pointnet2_msg()) == parameters(create_model("pointnet2-msg")) == 1_742_856
    # PointCMT's head (facts 4.6, 5.2)
    assert parameters(pointnet2_msg(head=(512,))) == 1_621_512
    assert parameters(pointnet2_msg(head=(512,), num_classes=15)) == 1_608_687


@pytest.mark.parametrize("variant", ["ssg", "msg"])
@torch.no_grad()
def test_a_batch_of_any_sizes_is_every_cloud_alone(variant: str) -> None:
    torch.manual_seed(0)
    scales = {
        "radii": ((0.2, 0.5), (0.6,)),
        "nsample": ((4, 12), (8,)),
        "mlps": (((8, 8), (8, 16)), ((16, 32),)),
    }
    net = PointNet2(in_channels=5, **{**SMALL, **(scales if variant == "msg" else {})}).eval()
    parts = clouds(90, 24, 23, 3, 1, channels=2)  # more points than centres, as many, fewer, and one
    together = net(batch(parts))
    assert together.shape == (5, 40) and bool(torch.isfinite(together).all())
    alone = torch.cat([net(batch([part])) for part in parts])
    # matrix products of other sizes add up in another order
    assert torch.allclose(together, alone, atol=1e-6)


@torch.no_grad()
def test_repeated_points_of_a_small_cloud_change_nothing() -> None:
    # fewer points than centres and than neighbours:
    # each is a centre, groups hold all of the ball, and a maximum ignores repetitions
    torch.manual_seed(0)
    ((small, _),) = clouds(5)
    exact = PointNet2(**{**SMALL, "npoint": (5, 5), "nsample": (5, 5)}).eval()
    roomy = PointNet2(**{**SMALL, "npoint": (7, 9), "nsample": (30, 40)}).eval()
    roomy.load_state_dict(exact.state_dict())
    cloud = PointBatch.from_list([small])
    assert torch.allclose(exact(cloud), roomy(cloud), atol=1e-6)


@torch.no_grad()
def test_features_behind_the_coordinates_are_seen_and_coordinates_come_from_xyz() -> None:
    torch.manual_seed(0)
    net = PointNet2(in_channels=5, **SMALL).eval()
    ((xyz, features),) = clouds(60, channels=2)
    assert features is not None
    reference = net(PointBatch.from_list([xyz], [features]))
    other_xyz, other_extra = features.clone(), features.clone()
    other_xyz[:, :3] += 1
    other_extra[:, 3:] += 1
    assert torch.equal(net(PointBatch.from_list([xyz], [other_xyz])), reference)
    assert not torch.allclose(net(PointBatch.from_list([xyz], [other_extra])), reference, atol=1e-3)
    plain = PointNet2(**SMALL).eval()  # three channels: nothing beside the coordinates
    assert torch.equal(plain(PointBatch.from_list([xyz], [other_extra])), plain(PointBatch.from_list([xyz])))


def test_arguments_build_the_same_network() -> None:
    import json

    for net in (
        PointNet2(sampling_start="random", dropout=0.4, **SMALL),
        pointnet2_msg(in_channels=6, num_classes=3),
    ):
        again = PointNet2(**json.loads(json.dumps(net.arguments)))
        assert again.arguments == net.arguments
        again.load_state_dict(net.state_dict())  # strict


def test_random_start_is_drawn_in_training_only() -> None:
    torch.manual_seed(0)
    net = PointNet2(sampling_start="random", dropout=0.0, **SMALL)
    cloud = batch(clouds(60, 50))

    def starts(seed: int) -> Tensor:
        net.generator = torch.Generator().manual_seed(seed)
        start = net._start(cloud.offsets.diff())
        assert isinstance(start, Tensor)
        return start

    drawn = torch.stack([starts(seed) for seed in range(200)])
    assert torch.equal(starts(3), starts(3))
    # the whole cloud, and nothing behind it
    assert drawn.min() == 0 and drawn[:, 0].max() > 50 and drawn[:, 1].max() == 49
    net.generator = None
    torch.manual_seed(5)
    first = net(cloud)
    torch.manual_seed(5)
    assert torch.equal(net(cloud), first)
    net.eval()
    assert net._start(cloud.offsets.diff()) == 0


def test_regimes() -> None:
    net = pointnet2_msg()
    first = {f"levels.0.mlps.{s}.0." for s in range(3)}
    report = set_finetune(net, "io")
    learns = {n for n, p in net.named_parameters() if p.requires_grad}
    assert {n for n in learns if not n.startswith("head.")} == {
        f"{m}{p}" for m in first for p in ("0.weight", "1.weight", "1.bias")
    }
    assert report.trainable == sum(3 * w + 2 * w for w in (32, 64, 64)) + parameters(net.head)
    net.train()
    moving = {n for n, m in net.named_modules() if isinstance(m, nn.BatchNorm1d) and m.training}
    assert moving == {f"{m}1" for m in first} | {"head.1", "head.5"}
    set_finetune(net, "io+stats")
    assert all(m.training for m in net.modules() if isinstance(m, nn.BatchNorm1d))
    assert {n for n, p in net.named_parameters() if p.requires_grad} == learns
    norms = set_finetune(net, "io+bn").trainable - report.trainable
    assert norms == 2 * (
        32 + 64 + 64 + 128 + 96 + 128 + (64 + 64 + 128) + (128 + 128 + 256) * 2 + 256 + 512 + 1024
    )
    before = net.levels[1].mlps[0][0][0].weight.clone()
    assert set_finetune(net, "scratch", seed=1).trainable == 1_742_856
    assert not torch.equal(net.levels[1].mlps[0][0][0].weight, before)


def normalised(dataset: CloudDataset) -> list[Sample]:
    return [
        replace(sample, xyz=unit_sphere(sample.xyz)) for sample in (dataset[i] for i in range(len(dataset)))
    ]


def test_it_learns_shapes() -> None:
    """Eighty steps on four classes of embedded shapes: far above chance on unseen objects.
    (Four suffice; running statistics lag.)
    """
    classes = ("aeroplane", "bottle", "chair", "table")
    train, test = (
        normalised(make_shapes(n, 256, seed, split, 0.0, classes))
        for n, seed, split in ((16, 0, "train"), (10, 0, "test"))
    )
    torch.manual_seed(0)
    net = PointNet2(
        num_classes=4, **{**SMALL, "npoint": (48, 16), "nsample": (16, 16), "radii": (0.4, 0.8)}, dropout=0.0
    )
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        order = torch.randperm(len(train), generator=generator).tolist()
        for i in range(0, len(order), 16):
            chosen = collate([train[j] for j in order[i : i + 16]])
            loss = nn.functional.cross_entropy(net(chosen), chosen.labels["class"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    net.eval()
    with torch.no_grad():
        unseen = collate(test)
        accuracy = float((net(unseen).argmax(1) == unseen.labels["class"]).float().mean())
    assert accuracy > 0.6, accuracy  # chance is 0.25


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"in_channels": 2}, "3 channels or more"),
        ({"radii": (0.1,)}, "one of each per level"),
        ({"nsample": ((4, 8), 8)}, "one of each per scale"),
        ({"mlps": ((), (4,))}, "list of widths"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"sampling_start": "middle"}, "first, random"),
        ({"npoint": ()}, "one of each per level"),
    ],
)
def test_bad_arguments(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PointNet2(**{**SMALL, **changes})


def test_bad_clouds() -> None:
    net = PointNet2(in_channels=6, **SMALL)
    xyz = torch.rand(30, 3)
    with pytest.raises(
        ValueError, match="PointNet2 takes features of 6 channels that start with xyz, got none"
    ):
        net(PointBatch.from_list([xyz, xyz]))
    with pytest.raises(ValueError, match="features of 6 channels that start with xyz, got 3 channels"):
        net(PointBatch.from_list([xyz, xyz], [xyz, xyz]))
    with pytest.raises(ValueError, match="cloud 1 of 2 has no points"):
        PointNet2(**SMALL)(PointBatch.from_list([xyz, torch.zeros(0, 3)]))
    with pytest.raises(ValueError, match="1 cloud in training mode"):
        PointNet2(**SMALL)(PointBatch.from_list([xyz]))
    with pytest.raises(ValueError, match="got a batch of 0 clouds, expected at least one"):
        PointNet2(**SMALL)(PointBatch.from_list([]))


def test_embedding_and_classifier_make_up_the_network() -> None:
    net = PointNet2(num_classes=5, npoint=(16, 4), nsample=(8, 4), head=(512,)).eval()
    cloud = PointBatch.from_list([torch.rand(40, 3), torch.rand(50, 3)])
    assert net.embed(cloud).shape == (2, 512) and net.classifier is net.head[-1]
    torch.testing.assert_close(net.classifier(net.embed(cloud)), net(cloud), rtol=0, atol=0)
