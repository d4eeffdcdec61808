"""PointNet++ for parts: its size, its encoder beside the classifier's, ragged batches, categories."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
import torch
from random_clouds import parameters
from torch import Tensor

from pointlift.core.sparse_tensor import PointBatch
from pointlift.inflation import set_finetune
from pointlift.models.points.pointnet2 import PointNet2, pointnet2_msg
from pointlift.models.points.pointnet2_parts import PointNet2Parts, pointnet2_msg_parts, pointnet2_ssg_parts

SMALL: dict[str, Any] = {
    "npoint": (24, 8),
    "radii": (0.3, 0.6),
    "nsample": (12, 8),
    "mlps": ((8, 16), (16, 32)),
    "global_mlp": (32, 48),
}
PARTS: dict[str, Any] = {
    **SMALL,
    "num_classes": 6,
    "categories": 3,
    "propagation": ((24,), (20, 16), (12,)),
    "head": (10,),
}
SCALES: dict[str, Any] = {
    "radii": ((0.2, 0.5), (0.6,)),
    "nsample": ((4, 12), (8,)),
    "mlps": (((8, 8), (8, 16)), ((16, 32),)),
}


def mlp(*widths: int) -> int:
    """Parameters of linear layers without bias, each with a batch normalisation."""
    return sum(a * b + 2 * b for a, b in pairwise(widths))


def clouds(*sizes: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, 3, generator=generator) * 0.4 for n in sizes]


def test_parameter_counts() -> None:
    """From the layer table: set abstraction up, feature propagation down,
    [category 16, xyz 3] at the points, a classifier of points.
    """
    ssg = mlp(3, 64, 64, 128) + mlp(3 + 128, 128, 128, 256) + mlp(3 + 256, 256, 512, 1024)
    ssg += mlp(1024 + 256, 256, 256) + mlp(256 + 128, 256, 128) + mlp(128 + 16 + 3, 128, 128, 128)
    last = mlp(128, 128) + 128 * 50 + 50
    assert parameters(pointnet2_ssg_parts()) == ssg + last == 1_406_706
    first = mlp(3, 32, 32, 64) + mlp(3, 64, 64, 128) + mlp(3, 64, 96, 128)
    second = mlp(3 + 320, 64, 64, 128) + 2 * mlp(3 + 320, 128, 128, 256)
    msg = first + second + mlp(3 + 640, 256, 512, 1024)
    msg += mlp(1024 + 640, 256, 256) + mlp(256 + 320, 256, 128) + mlp(128 + 16 + 3, 128, 128)
    assert parameters(pointnet2_msg_parts()) == msg + last == 1_808_018
    # the single-scale network of the original code: normals, no category
    plain = pointnet2_ssg_parts(in_channels=6, categories=0)
    assert parameters(plain) == ssg + last + 3 * 64 + (6 - 19) * 128


@pytest.mark.parametrize("variant", ["ssg", "msg"])
@torch.no_grad()
def test_the_encoder_is_the_classifiers(variant: str) -> None:
    """Tensor for tensor by name, and bit for bit by what it computes."""
    scales = SCALES if variant == "msg" else {}
    torch.manual_seed(0)
    classifier = PointNet2(head=(24,), num_classes=4, **{**SMALL, **scales}).eval()
    net = PointNet2Parts(**{**PARTS, **scales}).eval()
    encoder = {n: t for n, t in classifier.state_dict().items() if not n.startswith("head.")}
    assert encoder.keys() == {n for n in net.state_dict() if n.startswith(("levels.", "whole."))}
    net.load_state_dict(encoder, strict=False)
    cloud = PointBatch.from_list(clouds(90, 24, 5))
    levels, embedding = net.encode(cloud)
    assert torch.equal(embedding, classifier.forward_features(cloud))
    assert [len(offsets) for _, _, offsets in levels] == [4, 4] and [len(xyz) for xyz, _, _ in levels] == [
        72,
        24,
    ]


def test_full_size_encoders_have_the_classifiers_tensors() -> None:
    for classifier, net in (
        (PointNet2(), pointnet2_ssg_parts()),
        (pointnet2_msg(head=(512,)), pointnet2_msg_parts()),
    ):
        there = {n: t.shape for n, t in classifier.state_dict().items() if not n.startswith("head.")}
        assert there == {
            n: t.shape for n, t in net.state_dict().items() if n.startswith(("levels.", "whole."))
        }


@torch.no_grad()
def test_a_batch_of_any_sizes_is_every_cloud_alone() -> None:
    torch.manual_seed(0)
    net = PointNet2Parts(**PARTS).eval()
    sizes, category = (90, 24, 23, 3, 1), torch.tensor([0, 2, 1, 1, 0])
    parts = clouds(*sizes)
    together = net(PointBatch.from_list(parts, labels={"class": category}))
    assert together.shape == (sum(sizes), 6) and bool(torch.isfinite(together).all())
    alone = torch.cat(
        [net(PointBatch.from_list([x], labels={"class": c[None]})) for x, c in zip(parts, category)]
    )
    # matrix products of other sizes add up in another order
    assert torch.allclose(together, alone, atol=1e-6)


@torch.no_grad()
def test_points_in_another_order_have_the_same_parts() -> None:
    torch.manual_seed(0)
    # all points are centres, all neighbours are seen
    net = PointNet2Parts(**{**PARTS, "npoint": (60, 60), "nsample": (60, 60)}).eval()
    (xyz,) = clouds(60)
    order, category = torch.randperm(60), {"class": torch.tensor([1])}
    out = net(PointBatch.from_list([xyz], labels=category))
    assert torch.allclose(net(PointBatch.from_list([xyz[order]], labels=category)), out[order], atol=1e-5)


@torch.no_grad()
def test_the_category_is_seen_where_it_is_wanted() -> None:
    torch.manual_seed(0)
    net, blind = PointNet2Parts(**PARTS).eval(), PointNet2Parts(**{**PARTS, "categories": 0}).eval()
    xyz = clouds(30)
    cups, lamps = (PointBatch.from_list(xyz, labels={"class": torch.tensor([c])}) for c in (0, 2))
    assert not torch.allclose(net(cups), net(lamps), atol=1e-3)
    assert torch.equal(blind(cups), blind(lamps))
    # no category: its channels are zero, which is as good as weights of zero for them
    unknown = net(PointBatch.from_list(xyz))
    first = net.get_parameter("propagation.2.mlp.0.0.weight")
    first[:, 16 : 16 + 3] = 0  # behind 16 interpolated channels
    assert torch.allclose(net(cups), unknown, atol=1e-6)


def test_regimes_and_arguments() -> None:
    net = pointnet2_msg_parts(in_channels=6, num_classes=5, categories=2)
    again = PointNet2Parts(**json.loads(json.dumps(net.arguments)))
    assert again.arguments == net.arguments
    again.load_state_dict(net.state_dict())
    assert set_finetune(net, "all").trainable == parameters(net)
    before = net.get_parameter("propagation.0.mlp.0.0.weight").clone()
    set_finetune(net, "scratch", seed=1)
    assert not torch.equal(net.get_parameter("propagation.0.mlp.0.0.weight"), before)
    cloud = PointBatch.from_list(clouds(20, 20))
    small = PointNet2Parts(**PARTS).eval()
    # the features of a point, and what names its part
    assert torch.equal(small.classifier(small.embed(cloud)), small(cloud))


def test_every_parameter_receives_a_gradient() -> None:
    torch.manual_seed(0)
    net = PointNet2Parts(**{**PARTS, **SCALES, "dropout": 0.0})
    # one cloud has points enough
    net(PointBatch.from_list(clouds(40), labels={"class": torch.tensor([1])})).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())
    # shifts before a batch normalisation have none, scales and weights have;
    # category channels of others than 1 are 0
    assert all(
        bool(p.grad is not None and p.grad.any()) for n, p in net.named_parameters() if n.endswith("weight")
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"categories": -1}, "-1 categories"),
        ({"propagation": ((8,), (8,))}, "3 lists of widths"),
        ({"propagation": ((8,), (0,), (8,))}, "positive"),
        ({"in_channels": 2}, "3 channels or more"),
    ],
)
def test_bad_arguments(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PointNet2Parts(**{**PARTS, **changes})


def test_bad_clouds() -> None:
    net = PointNet2Parts(**PARTS)
    xyz = clouds(30)
    for label in ([3], [-1], [0, 0]):
        with pytest.raises(ValueError, match=r"category of 0..2 for each of 1 clouds"):
            net(PointBatch.from_list(xyz, labels={"class": torch.tensor(label)}))
    with pytest.raises(ValueError, match="1 point in training mode"):
        net(PointBatch.from_list(clouds(1)))
    with pytest.raises(ValueError, match="cloud 1 of 2 has no points"):
        net(PointBatch.from_list([xyz[0], torch.zeros(0, 3)]))
    with pytest.raises(ValueError, match="batch of 0 clouds"):
        net(PointBatch.from_list([]))
    with pytest.raises(TypeError, match="takes a PointBatch"):
        net(torch.zeros(3, 3))
