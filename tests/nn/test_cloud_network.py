"""The verbs that all networks of clouds share, beside timm's on the image network they come from."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
from torch import nn

import pointlift as pl
from pointlift.nn import CloudNetwork

WIDTHS = (8, 16, 32, 64)
NARROW = {"channels": WIDTHS}  # an eighth of resnet18's
NETWORKS = {
    "resnet18": {"rule": "mean", "image_options": NARROW},
    "fractal_resnet": {},
    "pointnet2-ssg": {"npoint": [64, 16], "nsample": [8, 8]},
    "vit_tiny_patch16_224": {"centres": 32, "neighbours": 8, "image_options": {"depth": 3}},
    "dgcnn": {"k": 5},
}
EVERY = {
    **NETWORKS,
    "pointmlp-elite": {"npoint": [64, 32, 16, 8], "k": 6},
    "rscnn": {"npoint": [64, 16], "nsample": [8, 8]},
    "simpleview": {"image_size": 32},
    "linear-network": {"channels": 16},
    "pointnet2-ssg-parts": {"npoint": [64, 16], "nsample": [8, 8]},
    "pointnet2-ssg-scenes": {"npoint": [64, 32, 16, 8], "nsample": [8, 8, 8, 8]},
}
LEVELS = {"resnet18": 4, "fractal_resnet": 4, "pointnet2-ssg": 2, "vit_tiny_patch16_224": 3, "dgcnn": 4}


def clouds(*sizes: int) -> pl.PointBatch:
    generator = torch.Generator().manual_seed(0)
    return pl.PointBatch.from_list([torch.rand(n, 3, generator=generator) * 2 - 1 for n in sizes])


def made(name: str, voxel_size: float = 0.1) -> CloudNetwork:
    return pl.create_model(name, num_classes=5, voxel_size=voxel_size, **EVERY[name]).eval()


def given(net: CloudNetwork, cloud: pl.PointBatch) -> pl.PointBatch:
    """The cloud with its coordinates as features, as every reader delivers it."""
    return pl.PointBatch(cloud.xyz, cloud.xyz, cloud.offsets)


@pytest.mark.parametrize("name", EVERY)
@torch.no_grad()
def test_every_network_takes_clouds_and_splits_as_timm_does(name: str) -> None:
    net = made(name)
    cloud = given(net, clouds(100, 130))
    logits = net(cloud)
    features = net.forward_features(cloud)
    assert torch.equal(net.forward_head(features), logits)
    assert torch.equal(net.forward_head(features, pre_logits=True), net.embed(cloud))
    assert logits.shape[1] == net.num_classes == net.arguments["num_classes"] == 5 and net.in_channels == 3
    # which end in a normalisation of the logits
    if name not in ("linear-network", "resnet18", "fractal_resnet"):
        assert torch.equal(net.classifier(net.embed(cloud)), logits)
    else:
        with pytest.raises(
            TypeError, match=f"{type(net).__name__} ends with BatchNorm1d, expected a Linear layer"
        ):
            _ = net.classifier


@pytest.mark.parametrize("name", ["resnet18", "linear-network"])
@torch.no_grad()
def test_networks_on_voxels_make_them_themselves(name: str) -> None:
    net = made(name, voxel_size=0.2)
    cloud = given(net, clouds(100, 130))
    voxels = pl.voxelize(cloud, 0.2, origin="cloud")
    assert net.takes == "voxels" and torch.equal(net(cloud), net(voxels))
    assert torch.equal(net.forward_features(cloud), net.forward_features(voxels))
    assert torch.equal(net.forward_map(cloud).features, net.forward_map(voxels).features)
    assert not torch.equal(net(pl.voxelize(cloud, 0.1, origin="cloud")), net(voxels))
    net.voxel_size = 0.1
    assert torch.equal(net(cloud), net(pl.voxelize(cloud, 0.1, origin="cloud")))
    with pytest.raises(TypeError, match="takes a PointBatch or a SparseTensor, got Tensor"):
        net(cloud.xyz)


def test_the_voxel_size_is_not_part_of_what_makes_a_network() -> None:
    assert made("resnet18", 0.3).voxel_size == 0.3 and "voxel_size" not in made("resnet18").arguments
    assert pl.create_model("linear-network").voxel_size == 0.05
    assert pl.inflate(timm.create_model("resnet18", **NARROW), voxel_size=0.02).voxel_size == 0.02


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_intermediate_maps_are_those_that_feature_info_lists(name: str) -> None:
    net = made(name)
    cloud = given(net, clouds(100, 130))
    info = net.feature_info
    features, maps = net.forward_intermediates(cloud)
    assert torch.equal(features, net.forward_features(cloud)) and len(maps) == len(info) == LEVELS[name]
    for entry, found in zip(info, maps):
        assert found.features.shape[1] == entry["num_chs"] and isinstance(
            net.get_submodule(entry["module"]), nn.Module
        )
        if net.takes == "voxels":
            assert found.stride == entry["reduction"]
        else:
            sizes = [entry["num_points"]] * 2 if "num_points" in entry else [100, 130]
            assert found.offsets.diff().tolist() == sizes and len(found.xyz) == len(found.features) == sum(
                sizes
            )
    again = net.forward_intermediates(cloud, intermediates_only=True)
    assert isinstance(again, list) and all(
        torch.equal(a.features, b.features) for a, b in zip(again, maps, strict=True)
    )


@torch.no_grad()
def test_indices_are_read_as_timm_reads_them() -> None:
    image = timm.create_model("resnet18", **NARROW).eval()
    picture = torch.rand(1, 3, 32, 32)
    net = made("resnet18")
    cloud = given(net, clouds(100, 130))
    _, maps = net.forward_intermediates(cloud)
    for indices in (1, 2, [0], [-1], [0, -1], [2, 1]):
        widths = [m.shape[1] for m in image.forward_intermediates(picture, indices, intermediates_only=True)]
        chosen = net.forward_intermediates(cloud, indices, intermediates_only=True)
        shift = {width: i for i, width in enumerate(WIDTHS)}
        # ours has no stem among them, so numbers from the front are one less
        if isinstance(indices, int) or indices == [-1]:
            assert [m.features.shape[1] for m in chosen] == widths
        assert all(torch.equal(m.features, maps[shift[m.features.shape[1]]].features) for m in chosen)
    assert len(net.forward_intermediates(cloud, [2, 1], intermediates_only=True)) == 2
    for wrong in (5, 0, [4], [-5]):
        with pytest.raises(ValueError, match="indices must name some of 4 intermediate maps"):
            net.forward_intermediates(cloud, wrong)


@torch.no_grad()
def test_feature_info_of_inflated_networks_has_timms_keys() -> None:
    theirs = timm.create_model("resnet18", **NARROW).feature_info
    ours = made("resnet18").feature_info
    # the image stem is gone
    assert [f"backbone.{i['module']}" for i in theirs][1:] == [i["module"] for i in ours]
    assert [i["num_chs"] for i in theirs][1:] == [i["num_chs"] for i in ours]
    assert all(set(i) == {"num_chs", "reduction", "module"} for i in ours)
    assert [i["reduction"] for i in ours] == [1, 2, 4, 8]  # and with it its two strides
    kept = pl.inflate(timm.create_model("resnet18", **NARROW), stem="inflate").feature_info
    assert [i["reduction"] for i in kept] == [i["reduction"] for i in theirs] and kept[0][
        "module"
    ] == "backbone.act1"


@torch.no_grad()
def test_maps_of_pictures_are_sorted_by_view() -> None:
    net = made("simpleview")
    features, maps = net.forward_intermediates(given(net, clouds(50, 60)))
    assert [tuple(m.shape) for m in maps] == [(2, 6, 16 * 2**i, 32 // 2**i, 32 // 2**i) for i in range(4)]
    assert torch.allclose(maps[-1].mean((3, 4)).flatten(1), features)


@pytest.mark.parametrize("name", EVERY)
def test_reset_classifier(name: str) -> None:
    net = made(name)
    cloud = given(net, clouds(100, 130))
    with torch.no_grad():
        embedding, before = net.embed(cloud), copy.deepcopy(net.state_dict())
        net.reset_classifier(9)
        assert net(cloud).shape[1] == net.num_classes == net.arguments["num_classes"] == 9
        assert torch.equal(net.embed(cloud), embedding)
        expected = pl.create_model(name, num_classes=9, **EVERY[name]).state_dict()
        assert {k: v.shape for k, v in net.state_dict().items()} == {k: v.shape for k, v in expected.items()}
        changed = [k for k, v in net.state_dict().items() if v.shape != before[k].shape]
        assert changed and all(k.startswith("head.") for k in changed)
        net.reset_classifier(0)
        assert torch.equal(net(cloud), embedding) and net.num_classes == 0
        with pytest.raises(TypeError, match="expected a Linear layer"):
            _ = net.classifier
        net.reset_classifier(4)
        assert net(cloud).shape[1] == 4
    net.train()(cloud).sum().backward()
    assert all(p.grad is not None for n, p in net.named_parameters() if n.startswith("head."))
    with pytest.raises(ValueError, match="num_classes must be at least 0, got -1"):
        net.reset_classifier(-1)


@torch.no_grad()
def test_a_network_of_ones_own_has_one_map() -> None:
    class Mean(CloudNetwork):
        def __init__(self, num_classes: int = 2) -> None:
            super().__init__({"num_classes": num_classes}, ["lift"])
            self.lift, self.head = nn.Linear(3, 4), nn.Linear(4, num_classes)

        def forward_features(self, cloud: pl.PointBatch) -> torch.Tensor:
            return torch.stack([f.mean(0) for f in self.lift(cloud.xyz).split(cloud.offsets.diff().tolist())])

    net: Any = Mean()
    cloud = clouds(3, 5)
    assert net.feature_info == [{"num_chs": 4, "reduction": None, "module": ""}]
    features, maps = net.forward_intermediates(cloud)
    assert len(maps) == 1 and maps[0] is features and torch.equal(net.head(features), net(cloud))
    assert torch.equal(net.forward_map(cloud), features)
    with pytest.raises(TypeError, match="Mean takes a PointBatch, got SparseTensor"):
        net(pl.voxelize(cloud, 0.5))
