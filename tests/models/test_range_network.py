"""The range-view network: one row of logits per point, and what of the image network is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

import pointlift as pl
from pointlift.inflation import InflationError
from pointlift.models.points.range_network import RangeNetwork, _resized
from pointlift.models.points.range_trunk import RangeTrunk

SIZE: dict[str, Any] = {"height": 32, "width": 128, "fused": 16}


def batch(*sizes: int, seed: int = 0) -> pl.PointBatch:
    generator = torch.Generator().manual_seed(seed)
    clouds = [torch.randn(n, 3, generator=generator) * torch.tensor([9.0, 9.0, 1.0]) for n in sizes]
    return pl.PointBatch.from_list(
        clouds, [torch.cat([c, torch.rand(len(c), 1, generator=generator)], 1) for c in clouds]
    )


def made(name: str = "fractal_resnet", **options: Any) -> RangeNetwork:
    net = pl.create_model(name, network="range-view", num_classes=5, in_channels=4, **{**SIZE, **options})
    assert isinstance(net, RangeNetwork)
    return net.eval()


@pytest.fixture(scope="module")
def fractal() -> RangeNetwork:
    return made()


def test_a_row_of_logits_for_every_point_and_clouds_do_not_see_each_other(fractal: RangeNetwork) -> None:
    cloud = batch(301, 1, 77)
    with torch.no_grad():
        logits = fractal(cloud)
        assert logits.shape == (379, 5) and bool(logits.isfinite().all())
        features = fractal.forward_features(cloud)
        torch.testing.assert_close(fractal.forward_head(features), logits)
        alone = fractal(pl.PointBatch.from_list([cloud.xyz[302:]], [cloud.features[302:]]))  # type: ignore[index]
    torch.testing.assert_close(logits[302:], alone, atol=1e-4, rtol=1e-4)  # convolutions of other batch sizes


def test_points_get_what_the_enlarged_map_has_at_their_pixels(fractal: RangeNetwork) -> None:
    cloud = batch(150, 60)
    with torch.no_grad():
        seen = fractal.project(cloud)
        fused = fractal.fused_map(seen.images)
        expected = seen.at_points(_resized(fused, (32, 128)))
        torch.testing.assert_close(fractal.forward_features(cloud), expected, atol=1e-5, rtol=1e-4)


def test_answers_by_vote_are_logarithms_of_probabilities_and_in_training_of_the_pixel() -> None:
    net, cloud = made(answer="vote", vote={"k": 3}), batch(200)
    plain = made()
    plain.load_state_dict(net.state_dict())
    with torch.no_grad():
        logits, at_pixel = net(cloud), plain(cloud)
        torch.testing.assert_close(logits.exp().sum(1), torch.ones(200))
        seen = net.project(cloud)
        picture = _resized(net.head(net.fused_map(seen.images).movedim(1, 3)).movedim(3, 1), (32, 128))
        torch.testing.assert_close(seen.at_points(picture), at_pixel, atol=1e-4, rtol=1e-4)
        assert net.vote.k == 3 and net.vote.search == 5
    net.train(), plain.train()
    torch.testing.assert_close(net(cloud), plain(cloud))


def test_channels_are_normalised_and_empty_pixels_are_zero(fractal: RangeNetwork) -> None:
    given: list[torch.Tensor] = []
    handle = fractal.backbone.register_forward_pre_hook(lambda m, args: given.append(args[0]))
    with torch.no_grad():
        cloud = batch(40)
        fractal(cloud)
    handle.remove()
    seen = fractal.project(cloud)
    (images,) = given
    assert images.shape == (1, 5, 32, 128)
    assert not images.movedim(1, 3)[seen.index < 0].any()
    i = int(seen.index[seen.index >= 0][0])
    row, column = divmod(int(seen.pixel[i]), 128)
    x = float(cloud.xyz[i, 0])
    assert float(images[0, 0, row, column]) == pytest.approx((x - 10.88) / 11.47, abs=1e-5)
    assert float(images[0, 4, row, column]) == pytest.approx(
        (float(cloud.xyz[i].norm()) - 12.12) / 12.32, abs=1e-5
    )
    three = pl.create_model("fractal_resnet", network="range-view", num_classes=5, in_channels=3, **SIZE)
    assert three.mean.tolist() == pytest.approx([10.88, 0.23, -1.04, 12.12])  # type: ignore[union-attr, operator]


@pytest.mark.parametrize("regime", ["io", "io+stats", "io+bn", "all", "scratch"])
def test_regimes_train_what_they_say(regime: str) -> None:
    net = made()
    before = {n: t.clone() for n, t in net.state_dict().items()}
    pl.set_finetune(net, regime)
    net.train()
    started = {n: t.clone() for n, t in net.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1)
    nn.functional.cross_entropy(net(batch(200, 100)), torch.arange(300) % 5).backward()
    optimizer.step()
    moved = {n for n, t in net.state_dict().items() if not torch.equal(t, started[n])}
    first = f"backbone.{net.backbone.input_layer}"
    inside = {n for n in moved if n.startswith("backbone.") and not n.startswith(f"{first}.")}
    assert {"head.weight", "fuse.0.weight", "fuse.1.running_mean", f"{first}.weight"} <= moved
    statistics = {
        n for n in inside if n.rpartition(".")[2] in ("running_mean", "running_var", "num_batches_tracked")
    }
    if regime == "io":
        assert not inside
    elif regime == "io+stats":
        assert inside and inside == statistics
    elif regime == "io+bn":
        rest = {n.rpartition(".")[2] for n in inside - statistics}
        assert rest == {"weight", "bias"} and all(before[n].ndim <= 1 for n in inside)
    else:
        assert any(before[n].ndim == 4 for n in inside)
    assert (regime == "scratch") == (not torch.equal(before[f"{first}.weight"], started[f"{first}.weight"]))


def test_hrnet_gives_its_four_branches_with_the_image_weights() -> None:
    image = timm.create_model("hrnet_w18_small")
    trunk = RangeTrunk(image, 5).eval()
    assert trunk.widths == [16, 32, 64, 128]
    with torch.no_grad():
        maps = trunk(torch.zeros(1, 5, 64, 96))
        assert [tuple(m.shape[2:]) for m in maps] == [(16, 24), (8, 12), (4, 6), (2, 3)]
        # a picture of equal channels is a grey picture of the image network
        grey = torch.rand(1, 1, 64, 96)
        image.eval()
        x = image.act1(image.bn1(image.conv1(grey.expand(1, 3, 64, 96))))
        expected = image.stages(image.act2(image.bn2(image.conv2(x))))
        for a, b in zip(trunk(grey.expand(1, 5, 64, 96)), expected):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    assert not any(n.startswith(("network.incre", "network.classifier")) for n in trunk.state_dict())
    assert set(trunk.report.counts()) == {"copied", "inflated", "dropped"}


@pytest.mark.parametrize(
    ("name", "rows", "kept"),
    [
        ("resnet18", [32, 16, 8, 4, 2], [64, 64, 32, 16, 8]),
        ("mobilenetv3_small_050", [32, 16, 8, 4, 2], None),
    ],
)
def test_maps_of_other_networks_and_rows_that_are_kept(
    name: str, rows: list[int], kept: list[int] | None
) -> None:
    image = timm.create_model(name)
    with torch.no_grad():
        maps = RangeTrunk(image, 6).eval()(torch.zeros(1, 6, 64, 256))
        assert [m.shape[2] for m in maps] == rows and [m.shape[3] for m in maps] == [r * 4 for r in rows]
        if kept:
            maps = RangeTrunk(image, 6, keep_rows=True).eval()(torch.zeros(1, 6, 64, 256))
            assert [m.shape[2] for m in maps] == kept and maps[0].shape[3] == 128


def test_every_parameter_learns_and_cut_layers_are_gone() -> None:
    net = made("mobilenetv3_small_050")
    net.train()
    net(batch(100, 50)).sum().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None] == []
    assert not any("classifier" in n or "conv_head" in n for n in net.state_dict())


def test_saved_and_loaded_it_answers_the_same(tmp_path: Path) -> None:
    net, cloud = made(answer="vote", vote={"k": 3}, up=10.0), batch(90)
    pl.save(net, tmp_path / "range.safetensors")
    again = pl.load(tmp_path / "range.safetensors").eval()
    with torch.no_grad():
        assert torch.equal(again(cloud), net(cloud))


def test_wrong_options_networks_and_clouds_are_refused_in_a_sentence(fractal: RangeNetwork) -> None:
    for options, words in (
        ({"answer": "nearest"}, "answer must be one of pixel, vote"),
        ({"vote": {"neighbours": 3}}, "some of k, search, sigma, cutoff, own_range are expected"),
        ({"mean": [1.0]}, "mean has 1 numbers, 5 are expected"),
        ({"std": [1.0, 1, 1, 1, 0]}, "deviations are above 0"),
        ({"start": "old"}, "start must be one of inflated, new"),
        ({"fused": -1}, "expected at least 1, 3 and 0"),
    ):
        with pytest.raises(ValueError, match=words):
            made(**options)
    with pytest.raises(InflationError, match="choose a convolutional"):
        RangeTrunk(timm.create_model("vit_tiny_patch16_224", depth=1), 5)
    with pytest.raises(ValueError, match="no points"):
        fractal(batch(4, 0))
    with pytest.raises(ValueError, match="takes features of 4 channels that start with xyz, got none"):
        fractal(pl.PointBatch.from_list([torch.rand(4, 3)]))
    with pytest.raises(TypeError, match="takes a PointBatch"):
        fractal(pl.voxelize(batch(4), 0.5))
