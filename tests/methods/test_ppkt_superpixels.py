"""Contrast over superpixels, and stochastic depth of the student, against what is written out here."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from pointlift import create_model
from pointlift.core.point_batch import PointBatch
from pointlift.methods.base import Place
from pointlift.methods.optim import OptimConfig
from pointlift.methods.ppkt.module import PixelToPoint
from pointlift.methods.ppkt.recipe import PPKT
from pointlift.methods.ppkt.settings import TransferConfig
from pointlift.methods.ppkt.superpixels import segments_seen
from pointlift.nn.residual import SparseBasicBlock, set_drop_path
from pointlift.teachers.dense_features import DenseFeatures, pool_map

PLANES = [8, 8, 8, 8, 8, 8, 8, 8]
HEIGHT, WIDTH = 13, 18


def batch_of(seed: int = 0, points: int = 70) -> PointBatch:
    """Two frames whose superpixels are random: nothing of them is regular."""
    g = torch.Generator().manual_seed(seed)
    places = torch.rand(2 * points, 2, generator=g) * torch.tensor([WIDTH - 1.0, HEIGHT - 1.0])
    places[::9] = float("nan")
    extras = {
        "pictures": torch.randint(0, 255, (2, 3, HEIGHT, WIDTH), generator=g, dtype=torch.uint8),
        "places": places,
        "superpixels": torch.randint(0, 7, (2, HEIGHT, WIDTH), generator=g),
    }
    clouds = [torch.rand(points, 3, generator=g) for _ in range(2)]
    return PointBatch.from_list(clouds, [torch.rand(points, 3, generator=g) for _ in range(2)], extras=extras)


def module_of(transfer: TransferConfig) -> PixelToPoint:
    torch.manual_seed(0)
    net = create_model("res16unet14a", in_channels=3, num_classes=4, planes=PLANES)
    net.voxel_size = 0.1
    teacher = DenseFeatures(nn.Conv2d(3, 5, 4, stride=4), [0.5] * 3, [0.25] * 3, (HEIGHT, WIDTH), layer="")
    return PixelToPoint(net, teacher, transfer, optim=OptimConfig(lr=0.05), total_steps=10)


def test_pooled_map_is_the_mean_of_the_upsampled_one() -> None:
    g = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 4, 3, 5, generator=g, dtype=torch.float64)
    segments = torch.randint(0, 6, (2, HEIGHT, WIDTH), generator=g)
    segments[1][segments[1] == 3] = 2
    large = functional.interpolate(maps, (HEIGHT, WIDTH), mode="bilinear", align_corners=False)
    found = pool_map(maps, segments, 6).view(2, 6, 4)
    for b in range(2):
        for s in range(6):
            inside = segments[b] == s
            expected = large[b][:, inside].mean(1) if inside.any() else torch.zeros(4, dtype=torch.float64)
            assert torch.allclose(found[b, s], expected, atol=1e-6)  # weights are float32


def test_points_are_pooled_over_the_superpixel_that_shows_them() -> None:
    batch = batch_of()
    rows = torch.arange(140) // 3  # voxels of three points, some across superpixels
    seen = segments_seen(batch, rows)
    features = torch.randn(47, 5)
    found = dict(zip(seen.segments.tolist(), seen.means(features)))
    own: dict[int, list[torch.Tensor]] = {}
    for n in range(140):
        u, v = batch.extras["places"][n].tolist()
        if u == u:
            picture = n // 70
            number = int(batch.extras["superpixels"][picture, int(v + 0.5), int(u + 0.5)])
            own.setdefault(picture * seen.count + number, []).append(features[n // 3])
    assert found.keys() == own.keys()
    for key, members in own.items():
        assert torch.allclose(found[key], torch.stack(members).mean(0), atol=1e-6)


def test_loss_is_the_contrast_of_all_superpixels_of_the_batch() -> None:
    module, batch = module_of(TransferConfig(loss="superpixel", dim=6)).eval(), batch_of()
    loss = module.losses(batch)["loss"]
    features, rows = module.point_features(batch)
    points, pixels = module.pooled(batch, features, rows)
    a, b = functional.normalize(points, dim=1), functional.normalize(pixels, dim=1)
    total = 0.0
    for i in range(len(a)):
        scores = torch.exp(b @ a[i] / 0.07)
        total -= float(torch.log(scores[i] / scores.sum()))
    assert float(loss.detach()) == pytest.approx(total / len(a), rel=1e-4) and 7 < len(a) <= 14
    loss.backward()
    assert module.g2d.weight.grad is not None and float(module.g2d.weight.grad.abs().sum()) > 0
    assert not any(p.requires_grad for p in module.teacher.parameters())


def test_it_is_learned_and_judged() -> None:
    module, batch = module_of(TransferConfig(loss="superpixel", dim=16)), batch_of()
    module.train()
    optimizer = torch.optim.Adam(module.trained_parameters(), 0.02)
    first = float(module.losses(batch)["loss"].detach())
    for _ in range(12):
        optimizer.zero_grad()
        loss = module.losses(batch)["loss"]
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.9 * first
    module.eval().begin_evaluation()
    module.evaluate(batch)
    found = module.measures()
    assert float(found["pairs"]) == len(segments_seen(batch, torch.arange(140)).segments)
    assert float(found["chance"]) == pytest.approx(1 / float(found["pairs"]))


def test_superpixels_are_asked_for_in_both_places(tmp_path) -> None:
    recipe = PPKT()
    recipe.check(Place(tmp_path, tmp_path))
    for wrong in (
        replace(recipe, transfer=TransferConfig(loss="superpixel")),
        replace(recipe, data=replace(recipe.data, superpixels=150)),
    ):
        with pytest.raises(ValueError, match=r"transfer\.loss is .* and data\.superpixels is"):
            wrong.check(Place(tmp_path, tmp_path))
    batch = batch_of()
    del batch.extras["superpixels"]
    with pytest.raises(ValueError, match=r"set data\.superpixels"):
        segments_seen(batch, torch.arange(140))


def test_temperatures_of_the_losses() -> None:
    assert TransferConfig().tau == 0.04 and TransferConfig(loss="superpixel").tau == 0.07
    assert TransferConfig(loss="kd").tau == 4 and TransferConfig(loss="kd", temperature=2.0).tau == 2


# ------------------------------------------------------------------------------------------ stochastic depth


def test_stochastic_depth_is_off_by_default_and_in_evaluation() -> None:
    plain, dropped = module_of(TransferConfig()), module_of(TransferConfig(drop_path=0.5))
    assert plain.state_dict().keys() == dropped.state_dict().keys()
    assert all(m.drop_path is None for m in plain.net.modules() if isinstance(m, SparseBasicBlock))
    rates = [m.drop_path.p for m in dropped.net.modules() if isinstance(m, SparseBasicBlock)]
    assert rates == pytest.approx([0.5 * i / 7 for i in range(8)])
    batch = batch_of()
    one, two = (m.eval().point_features(batch)[0] for m in (plain, dropped))
    assert torch.equal(one, two)
    torch.manual_seed(1)
    one, two = (m.train().point_features(batch)[0] for m in (plain, dropped))
    assert not torch.equal(one, two)


def test_a_dropped_branch_leaves_the_shortcut() -> None:
    from pointlift.ops.voxelize import voxelize

    torch.manual_seed(0)
    block = SparseBasicBlock(3, 3)
    assert set_drop_path(nn.Sequential(SparseBasicBlock(3, 3), block), 0.5) == 2
    voxels = voxelize(batch_of(), 0.1)
    block.train()
    seen = set()
    for seed in range(12):
        torch.manual_seed(seed)
        out = block(voxels).features
        for cloud in range(2):
            own = voxels.batch == cloud
            seen.add((cloud, bool(torch.equal(out[own], voxels.features[own].relu()))))
    assert seen == {(0, True), (0, False), (1, True), (1, False)}  # clouds are dropped one by one
    set_drop_path(block, 0.0)
    assert block.drop_path is None


def test_stochastic_depth_is_refused_where_there_is_nothing_to_drop() -> None:
    with pytest.raises(ValueError, match="has no residual blocks on voxels"):
        set_drop_path(nn.Linear(2, 2), 0.1)
    for rate in (-0.1, 1.0):
        with pytest.raises(ValueError, match="drop_path is"):
            set_drop_path(nn.Linear(2, 2), rate)
        with pytest.raises(ValueError, match="drop_path is"):
            TransferConfig(drop_path=rate)
