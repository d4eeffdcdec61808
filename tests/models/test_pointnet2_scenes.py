"""PointNet++ for scenes: its configuration, counts by hand, and its forward layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import pointlift as pl
from pointlift.models.points.pointnet2_scenes import PointNet2Scenes

SMALL: dict[str, Any] = {"npoint": [32, 16, 8, 4], "nsample": [8, 8, 8, 8]}


def scan(*sizes: int, channels: int = 3) -> pl.PointBatch:
    generator = torch.Generator().manual_seed(0)
    batch = pl.PointBatch.from_list([torch.rand(n, 3, generator=generator) for n in sizes])
    extra = torch.rand(sum(sizes), channels - 3, generator=generator)
    return pl.PointBatch(batch.xyz, torch.cat([batch.xyz, extra], 1), batch.offsets)


def mlp(channels: int, *widths: int) -> int:
    """Linear layers without bias, each with a batch normalisation."""
    return sum(a * b + 2 * b for a, b in zip((channels, *widths), widths))


@pytest.mark.parametrize("in_channels", [3, 6])
def test_the_original_configuration(in_channels: int) -> None:
    net: Any = pl.create_model("pointnet2-ssg-scenes", num_classes=13, in_channels=in_channels)
    assert [(s.npoint, list(s.radii), list(s.nsample)) for s in net.levels] == [
        (1024, [0.1], [32]),
        (256, [0.2], [32]),
        (64, [0.4], [32]),
        (16, [0.8], [32]),
    ]
    extra = in_channels - 3
    count = mlp(3 + extra, 32, 32, 64) + mlp(3 + 64, 64, 64, 128) + mlp(3 + 128, 128, 128, 256)
    count += mlp(3 + 256, 256, 256, 512)
    count += mlp(512 + 256, 256, 256) + mlp(256 + 128, 256, 256) + mlp(256 + 64, 256, 128)
    count += mlp(128 + extra, 128, 128, 128) + mlp(128, 128) + 128 * 13 + 13
    assert sum(p.numel() for p in net.parameters()) == count
    assert net.whole is None


def test_two_scales() -> None:
    net: Any = pl.create_model("pointnet2-msg-scenes", num_classes=13)
    assert [list(s.radii) for s in net.levels] == [[0.05, 0.1], [0.1, 0.2], [0.2, 0.4], [0.4, 0.8]]
    assert [f.in_channels + f.skip_channels for f in net.propagation] == [
        1024 + 512,
        256 + 256,
        256 + 96,
        128,
    ]


@torch.no_grad()
def test_propagation_begins_at_the_last_level() -> None:
    """Level by level, from the network's own layers."""
    net: Any = PointNet2Scenes(5, 7, **SMALL).eval()
    cloud = scan(90, 70, channels=5)
    found = [(cloud.xyz, cloud.features[:, 3:], cloud.offsets)]
    for level in net.levels:
        found.append(level(*found[-1], 0))
    features = found[-1][1]
    for step, propagate in enumerate(net.propagation):
        fine, coarse = found[3 - step], found[4 - step]
        features = propagate(fine[0], fine[2], fine[1], coarse[0], features, coarse[2])
    assert torch.equal(net.forward_features(cloud), features)
    assert torch.equal(net(cloud), net.head(features)) and net(cloud).shape == (160, 7)


@torch.no_grad()
def test_each_cloud_as_if_alone_and_a_shift_changes_nothing() -> None:
    net = PointNet2Scenes(3, 4, **SMALL).eval()
    cloud = scan(90, 70)
    alone = pl.PointBatch(cloud.xyz[:90], None, torch.tensor([0, 90]))
    torch.testing.assert_close(net(cloud)[:90], net(alone))
    moved = pl.PointBatch(cloud.xyz + torch.tensor([4.0, -8.0, 2.0]), None, cloud.offsets)
    torch.testing.assert_close(net(moved), net(cloud), rtol=1e-3, atol=1e-3)  # float32 at 8 m


def test_all_parameters_learn() -> None:
    net = PointNet2Scenes(6, 4, **SMALL).train()
    net(scan(90, 70, channels=6)).square().mean().backward()
    assert all(p.grad is not None for p in net.parameters())


@torch.no_grad()
def test_save_and_load(tmp_path: Path) -> None:
    net = pl.create_model("pointnet2-ssg-scenes", num_classes=3, in_channels=6, **SMALL)
    pl.save(net, tmp_path / "a.safetensors")
    loaded = pl.load(tmp_path / "a.safetensors")
    cloud = scan(40, channels=6)
    assert torch.equal(loaded(cloud), net.eval()(cloud)) and loaded.arguments == net.arguments


def test_refused() -> None:
    with pytest.raises(ValueError, match=r"PointNet\+\+ for scenes: got 0 categories and 3 .* 4 lists of"):
        PointNet2Scenes(propagation=((8,),) * 3)
    with pytest.raises(ValueError, match="takes features of 6 channels that start with xyz, got none"):
        PointNet2Scenes(6, **SMALL).eval()(pl.PointBatch.from_list([torch.rand(9, 3)]))
    with pytest.raises(ValueError, match="cloud 1 of 2 has no points"):
        PointNet2Scenes(3, **SMALL)(pl.PointBatch.from_list([torch.rand(9, 3), torch.zeros(0, 3)]))
