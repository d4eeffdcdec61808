"""SR-UNet by its published parameter counts, by its layout, and by what it gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import pointlift as pl
from pointlift.models.voxels.res16unet import Res16UNet

TINY = (3, 4, 5, 6, 7, 6, 5, 4)
# facts 2.3: name, channels in and out, further arguments, parameters
COUNTS: list[tuple[str, int, int, dict[str, Any], int]] = [
    ("34c", 3, 13, {}, 37_845_965),
    ("34c", 3, 20, {}, 37_846_644),
    ("34c", 3, 32, {}, 37_847_808),
    ("34c", 3, 64, {}, 37_850_912),
    ("34c", 3, 128, {}, 37_857_120),
    ("34c", 3, 256, {}, 37_869_536),
    ("34c", 1, 64, {}, 37_849_184),
    ("34b", 3, 32, {}, 57_148_416),
    ("18c", 3, 32, {}, 21_696_000),
    ("18a", 3, 32, {}, 15_484_928),
    ("14a", 3, 20, {}, 8_015_092),
    ("34c", 3, 20, {"conv1_kernel_size": 5}, 37_856_052),
]


@pytest.mark.parametrize("name, in_channels, out, more, count", COUNTS)
def test_parameter_counts(name: str, in_channels: int, out: int, more: dict[str, Any], count: int) -> None:
    with torch.device("meta"):
        net = pl.create_model(f"res16unet{name}", num_classes=out, in_channels=in_channels, **more)
    assert sum(p.numel() for p in net.parameters()) == count


def test_every_depth_and_plane_has_a_name() -> None:
    names = {f"res16unet{depth}{planes}" for depth in (14, 18, 34, 50) for planes in "abc"}
    assert set(pl.list_models("res16unet*")) == names
    with torch.device("meta"):
        assert all(isinstance(pl.create_model(name), Res16UNet) for name in names)


@pytest.mark.parametrize("depth", [14, 50])
def test_bottlenecks_widen_what_the_next_level_takes(depth: int) -> None:
    net: Any = Res16UNet(planes=TINY, depth=depth)  # type: ignore[arg-type]
    factor = 4 if depth == 50 else 1
    assert [net.get_submodule(f"block{i}")[-1].out_channels for i in range(1, 9)] == [
        factor * w for w in TINY
    ]
    assert net.conv3p4s2.in_channels == net.conv3p4s2.out_channels == factor * TINY[1]
    assert net.convtr5p8s2.in_channels == factor * TINY[4] and net.convtr5p8s2.out_channels == TINY[5]
    assert net.block6[0].conv1.in_channels == TINY[5] + factor * TINY[1]
    assert net.block8[0].conv1.in_channels == TINY[7] + 32
    assert net.head.in_features == factor * TINY[7]


def test_momentum_is_that_of_norms_outside_the_blocks() -> None:
    net = Res16UNet(planes=TINY, depth=14, bn_momentum=0.05)
    norms = {n: m.momentum for n, m in net.named_modules() if isinstance(m, torch.nn.BatchNorm1d)}
    assert {m for n, m in norms.items() if n.startswith("block")} == {0.1}
    outside = {n: m for n, m in norms.items() if not n.startswith("block")}
    assert len(outside) == 9 and set(outside.values()) == {0.05}


def scan(*sizes: int, channels: int = 3, seed: int = 0) -> pl.PointBatch:
    generator = torch.Generator().manual_seed(seed)
    xyz = [torch.rand(n, 3, generator=generator) * 2 - 1.3 for n in sizes]
    batch = pl.PointBatch.from_list(xyz)
    return pl.PointBatch(batch.xyz, torch.rand(sum(sizes), channels, generator=generator), batch.offsets)


@torch.no_grad()
def test_a_row_per_point_or_per_voxel() -> None:
    net = Res16UNet(4, 5, 14, TINY).eval()
    net.voxel_size = 0.2
    cloud = scan(301, 98, channels=4)
    logits = net(cloud)
    assert logits.shape == (399, 5) and net.forward_features(cloud).shape == (399, TINY[-1])
    torch.testing.assert_close(net.forward_head(net.forward_features(cloud)), logits)
    voxels = pl.voxelize(cloud, 0.2, origin="cloud")
    per_voxel = net(voxels)
    assert per_voxel.shape == (len(voxels), 5)
    assert torch.equal(per_voxel[voxels.maps.point_rows], logits)
    for entry, found in zip(net.feature_info, net.forward_intermediates(cloud)[1]):
        assert (found.features.shape[1], found.stride) == (entry["num_chs"], entry["reduction"])


@torch.no_grad()
def test_clouds_of_a_batch_do_not_touch_and_shifts_by_voxels_change_nothing() -> None:
    net = Res16UNet(3, 5, 14, TINY).eval()
    net.voxel_size = 0.25
    cloud = scan(120, 77)
    alone = pl.PointBatch.from_list([cloud.xyz[:120]])
    one = net(pl.PointBatch(alone.xyz, cloud.features[:120], alone.offsets))
    torch.testing.assert_close(net(cloud)[:120], one)
    moved = pl.PointBatch(cloud.xyz + torch.tensor([-8.0, 16.0, 0.5]), cloud.features, cloud.offsets)
    torch.testing.assert_close(net(moved), net(cloud))


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:Cloud 0 of a batch is a single point")
def test_single_points_and_empty_clouds() -> None:
    net = Res16UNet(3, 5, 14, TINY).eval()
    assert net(pl.PointBatch.from_list([torch.rand(1, 3)])).shape == (1, 5)
    assert net(pl.PointBatch.from_list([torch.rand(9, 3), torch.zeros(0, 3)])).shape == (9, 5)
    assert net(pl.PointBatch.from_list([torch.zeros(0, 3)])).shape == (0, 5)
    with pytest.raises(ValueError, match="needs at least 2 voxels at stride 1, got 1"):
        net.train()(pl.PointBatch.from_list([torch.rand(1, 3)]))


def test_all_parameters_learn() -> None:
    net = Res16UNet(3, 5, 14, TINY).train()
    net.voxel_size = 0.1
    net(scan(200, 150)).square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in net.parameters())


def test_io_trains_the_ends_only() -> None:
    net = Res16UNet(3, 5, 14, TINY)
    pl.set_finetune(net, "io")
    learning = {n.split(".")[0] for n, p in net.named_parameters() if p.requires_grad}
    assert learning == {"conv0p1s1", "bn0", "head"}


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"depth": 35}, "depth=35"),
        ({"planes": "D"}, "planes is 'D', expected one of A, B, C, or eight"),
        ({"planes": (3, 4)}, "eight positive widths"),
        ({"conv1_kernel_size": 7}, "conv1_kernel_size=7"),
        ({"bn_momentum": 0.0}, "bn_momentum=0.0"),
        ({"in_channels": 0}, "in_channels=0"),
    ],
)
def test_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Res16UNet(**arguments)


def test_features_of_another_width_are_refused_in_a_sentence() -> None:
    net = Res16UNet(6, 5, 14, TINY)
    with pytest.raises(ValueError, match="takes features of 6 channels, got 3: give it"):
        net(pl.PointBatch.from_list([torch.rand(9, 3)]))
    with pytest.raises(TypeError, match="takes a PointBatch or a SparseTensor, got Tensor"):
        net(torch.rand(9, 6))  # type: ignore[arg-type]


@torch.no_grad()
def test_save_and_load(tmp_path: Path) -> None:
    net = pl.create_model(
        "res16unet14a", num_classes=4, in_channels=6, voxel_size=0.05, conv1_kernel_size=5, planes=TINY
    )
    pl.save(net, tmp_path / "a.safetensors", classes=["a", "b", "c", "d"])
    loaded = pl.load(tmp_path / "a.safetensors")
    cloud = scan(90, channels=6)
    assert torch.equal(loaded(cloud), net.eval()(cloud)) and loaded.arguments == net.arguments
    assert loaded.voxel_size == 0.05 and isinstance(loaded, Res16UNet)
