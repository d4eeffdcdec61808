"""Networks for linear probes: nothing new in front of the linear layer, nothing moves but it."""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest
import torch
from torch import nn

import pointlift as pl

NARROW = {"layers": [1, 1, 1, 1], "channels": [8, 16, 24, 32]}  # of timm's ResNets
UNET: dict[str, Any] = {"network": "unet", "stem": "inflate", "decoder": "hypercolumn"}
RANGE: dict[str, Any] = {"network": "range-view", "height": 16, "width": 64, "fused": 0}
POINTNET: dict[str, Any] = {
    "categories": 0,
    "npoint": (16, 4),
    "radii": (0.5, 1.0),
    "nsample": (8, 8),
    "mlps": ((8, 8), (8, 12)),
    "global_mlp": (8, 20),
    "propagation": ((), (), ()),
    "head": (),
}
NETWORKS = {"unet": UNET, "range-view": RANGE, "pointnet2-ssg-parts": POINTNET}


@functools.cache
def image() -> nn.Module:
    net = pl.models.image_network("resnet18", options=NARROW)
    net.pretrained_cfg = {"input_size": (3, 64, 64)}  # type: ignore[assignment]
    return net


def made(name: str, **arguments: Any) -> Any:
    options = {"num_classes": 5, "in_channels": 4, "voxel_size": 0.1, **NETWORKS[name], **arguments}
    if name == "pointnet2-ssg-parts":
        return pl.create_model(name, **options)
    return pl.create_model("resnet18", image_model=image(), **options)


def scan(*sizes: int) -> pl.PointBatch:
    generator = torch.Generator().manual_seed(0)
    batch = pl.PointBatch.from_list([torch.rand(n, 3, generator=generator) * 2 - 1.3 for n in sizes])
    beside = torch.rand(sum(sizes), 1, generator=generator)
    return pl.PointBatch(batch.xyz, torch.cat([batch.xyz, beside], 1), batch.offsets)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_linear_layer_alone_learns_and_forwards_are_equal_bit_for_bit(name: str) -> None:
    net, cloud = made(name), scan(90, 70)
    report = pl.set_finetune(net, "probe")
    head = net.last_linear
    assert report.trainable == head.weight.numel() + head.bias.numel()
    before = copy.deepcopy(net.state_dict())
    net.train()
    features = net.forward_features(cloud)
    optimiser = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1, weight_decay=0.1)
    target = torch.arange(160) % 5
    for _ in range(2):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(cloud), target).backward()
        optimiser.step()
    assert torch.equal(net.forward_features(cloud), features) and not features.requires_grad
    moved = {n for n, t in net.state_dict().items() if not torch.equal(t, before[n])}
    assert moved == {n for n in before if n.startswith("head.")} and len(moved) == 2


@pytest.mark.parametrize("name", ["unet", "range-view"])
def test_all_but_the_linear_layer_comes_from_the_image_network(name: str) -> None:
    rows = [r for r in made(name).report.rows if r.fate == "re-initialised"]
    assert {r.target for r in rows} == {"head.weight", "head.bias"}


def test_pointnet_has_nothing_behind_its_encoder() -> None:
    names = {n.split(".")[0] for n in made("pointnet2-ssg-parts").state_dict()}
    assert names == {"levels", "whole", "head"}


@torch.no_grad()
@pytest.mark.parametrize("stem", ["inflate", "three-conv", "linear"])
def test_a_hypercolumn_has_the_features_of_all_voxels_that_a_voxel_lies_in(stem: str) -> None:
    """Looked up by floored coordinates."""
    net = made("unet", stem=stem).eval()
    voxels = pl.voxelize(scan(130, 61), 0.1, origin="cloud")
    found: dict[str, Any] = {}
    handles = [
        net.get_submodule(n).register_forward_hook(
            lambda module, args, out, n=n: found.update({n: (out.coords, out.features.clone(), out.stride)})
        )
        for n in net.skips
    ]
    out = net.forward_voxels(voxels)
    for handle in handles:
        handle.remove()
    columns = []
    for coords, features, stride in (found[n] for n in net.skips):
        rows = {tuple(c): i for i, c in enumerate(coords.tolist())}
        mine = [(b, *(stride * (v // stride) for v in xyz)) for b, *xyz in voxels.coords.tolist()]
        columns.append(features[[rows[m] for m in mine]])
    expected = torch.cat(columns, 1)
    assert torch.equal(out.features[:, -expected.shape[1] :], expected)
    assert out.features.shape[1] == net.head.in_features
    assert (out.features.shape[1] == expected.shape[1]) == (stem == "inflate"), "else the input layer's map"


def test_a_hypercolumn_takes_no_widths_and_is_made_again(tmp_path: Any) -> None:
    with pytest.raises(ValueError, match="the decoder 'hypercolumn' has no steps: leave widths out"):
        made("unet", widths=(8, 8))
    net, cloud = made("unet").eval(), scan(1, 40)
    pl.save(net, tmp_path / "probe.safetensors")
    with torch.no_grad():
        assert torch.equal(pl.load(tmp_path / "probe.safetensors", image()).eval()(cloud), net(cloud))


@torch.no_grad()
def test_without_widths_a_point_has_what_its_levels_have() -> None:
    """At centres, interpolation gives the centre's own feature back."""
    net, cloud = made("pointnet2-ssg-parts").eval(), scan(40)
    levels, whole = net.encode(cloud)
    xyz, features, _ = levels[-1]  # the 4 centres, which are points of the cloud
    rows = torch.cdist(xyz, cloud.xyz).argmin(1)
    got = net.forward_features(cloud)[rows]
    assert got.shape[1] == net.head[-1].in_features == 20 + 12 + 8 + 4
    torch.testing.assert_close(got[:, :20], whole.expand(len(rows), -1))
    torch.testing.assert_close(got[:, 20:32], features, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(got[:, 40:], cloud.features[rows])
