"""Stage II: the generator's sizes, the box and its released bug, the distance against literal formulas,
and that it learns to draw.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import lightning
import pytest
import torch
from tiny_student import POINTS, WIDTH, batch, clouds, features, gradients, silent
from torch import Tensor

from pointlift.core.point_batch import PointBatch
from pointlift.data.loader import make_loader
from pointlift.methods.method import DivergenceError
from pointlift.methods.optim import OptimConfig
from pointlift.methods.pointcmt.generator import (
    CloudDistance,
    GeneratorError,
    GeneratorTraining,
    PointGenerator,
    fit_box,
    load_generator,
    pick_points,
    save_generator,
)
from pointlift.methods.pointcmt.taught_clouds import FEATURES, TaughtClouds


def random_clouds(n: int = 4, points: int = 6, seed: int = 0) -> Tensor:
    """Boxes of other sides in other places, float64."""
    draw = torch.Generator().manual_seed(seed)
    cloud = torch.rand(n, points, 3, dtype=torch.float64, generator=draw)
    return cloud * torch.tensor([2.0, 0.5, 1.3]) + 3 * torch.randn(
        n, 1, 3, dtype=torch.float64, generator=draw
    )


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_released_generator_has_its_number_of_parameters() -> None:
    released = PointGenerator(512, 1024, "linear")
    assert count(released) == 1_572_864 and released.layers[0].p == 0.5 and released.layers[1].bias is None
    three = PointGenerator(512, 1024)
    layers = [m for m in three.modules() if isinstance(m, torch.nn.Linear)]
    assert [(m.in_features, m.out_features) for m in layers] == [(512, 1024), (1024, 1024), (1024, 3072)]
    assert count(three) == 513 * 1024 + 1025 * 1024 + 1025 * 3072
    assert three(torch.rand(2, 512)).shape == (2, 1024, 3)
    again = PointGenerator(512, 1024, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(three.parameters(), again.parameters(), strict=True))


def test_dropout_of_the_released_generator_is_off_in_evaluation() -> None:
    generator, x = PointGenerator(WIDTH, 8, "linear"), torch.rand(3, WIDTH)
    assert not torch.equal(generator.train()(x), generator(x)) and torch.equal(
        generator.eval()(x), generator(x)
    )


def test_a_box_is_centred_and_its_longest_side_is_1() -> None:
    cloud = random_clouds()
    fitted = fit_box(cloud)
    low, high = fitted.amin(1), fitted.amax(1)
    assert torch.allclose((high - low).amax(1), torch.ones(4, dtype=torch.float64))
    assert torch.allclose(low + high, torch.zeros(4, 3, dtype=torch.float64), atol=1e-12)
    moved = fit_box(7 * cloud + torch.tensor([5.0, -3.0, 100.0]))
    assert torch.allclose(fitted, moved, atol=1e-12), "neither place nor size is left"
    assert fit_box(cloud, "none") is cloud
    point = torch.full((1, 5, 3), 4.0)
    assert torch.equal(fit_box(point), torch.zeros(1, 5, 3)), "a cloud of one repeated point"


def test_the_released_box_is_half_its_lower_corner_away() -> None:
    """Facts 4.4: s = 1 / longest side, shifted by -0.5 - s m with m = (min - diff) / 2,
    diff = longest side - side per axis.
    """
    cloud = random_clouds()
    for points, fitted, centred in zip(cloud, fit_box(cloud, "released"), fit_box(cloud), strict=True):
        low, side = points.min(0).values, points.max(0).values - points.min(0).values
        s, diff = 1 / side.max(), side.max() - side
        assert torch.allclose(fitted, points * s + (-0.5 - s * (low - diff) / 2), atol=1e-12)
        assert torch.allclose(fitted - centred, (0.5 * s * low).expand_as(points), atol=1e-12)


@pytest.mark.parametrize("box", ["centred", "released", "none"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_distance_is_the_best_of_all_bijections(box: str, reduction: str) -> None:
    a, b = random_clouds(3, 5), random_clouds(3, 5, seed=1)
    distance = CloudDistance(box, reduction, "exact")(a, b)  # type: ignore[arg-type]
    for i, value in enumerate(distance):
        p, q = fit_box(a, box)[i], fit_box(b, box)[i]  # type: ignore[arg-type]
        best = min(
            sum(float((p[k] - q[j]).norm()) for k, j in enumerate(order))
            for order in itertools.permutations(range(5))
        )
        assert float(value) == pytest.approx(best / (5 if reduction == "mean" else 1), rel=1e-9)


def test_the_auction_is_within_its_epsilon_of_the_exact_distance() -> None:
    a, b = random_clouds(4, 64).float(), random_clouds(4, 64, seed=1).float()
    exact = CloudDistance("centred", matching="exact")(a, b)
    for epsilon in (0.05, 0.01):
        near = CloudDistance("centred", epsilon=epsilon)(a, b)
        assert bool((near >= exact - 1e-6).all()) and bool((near <= exact + epsilon).all())


def test_epsilon_means_the_same_in_all_units() -> None:
    """Without a box it is in longest sides of that around both: millimetres take no longer than metres."""
    a, b = random_clouds(4, 64), random_clouds(4, 64, seed=1)
    metres = CloudDistance("none", epsilon=0.02)(a, b)
    for scale in (1e-3, 1e3, 1e6):
        there = CloudDistance("none", epsilon=0.02)(a * scale, b * scale)
        torch.testing.assert_close(there / scale, metres, rtol=1e-6, atol=0)
        exact, both = CloudDistance("none", matching="exact")(a * scale, b * scale), torch.cat([a, b], 1)
        side = both.amax(1) - both.amin(1)
        assert bool((there <= exact + 0.02 * scale * side.amax(1) * (1 + 1e-6)).all())
    assert CloudDistance().box == "none", "equations 4 and 5"
    wild = CloudDistance("none")(a.float() * 3e9, b.float())
    assert bool(wild.isfinite().all()), "a cloud that a bad step threw far away is a distance, no error"
    point = torch.ones(1, 4, 3)
    assert CloudDistance("none")(point, point).tolist() == [0.0]
    assert CloudDistance("none")(point + torch.tensor([3.0, 0, 0]), point).tolist() == [3.0], "place counts"


@pytest.mark.parametrize("box", ["centred", "none"])
def test_the_distance_has_the_gradient_of_its_value(box: str) -> None:
    """Numeric derivative of the whole, box included: generic clouds keep their bijection and their extreme
    points on a small step.
    """
    a, b = random_clouds(2, 5).requires_grad_(), random_clouds(2, 5, seed=1)
    distance = CloudDistance(box, matching="exact")  # type: ignore[arg-type]
    torch.autograd.gradcheck(lambda x: distance(x, b), (a,), eps=1e-6, atol=1e-6)


def test_as_many_points_as_are_generated_are_picked() -> None:
    xyz = torch.arange(10, dtype=torch.float32)[:, None].expand(10, 3).contiguous()
    picked = pick_points(PointBatch(xyz, None, torch.tensor([0, 6, 10])), 4)[:, :, 0]
    assert picked.tolist() == [[0, 1, 3, 4], [6, 7, 8, 9]]
    assert pick_points(PointBatch(xyz, None, torch.tensor([0, 2, 10])), 4)[0, :, 0].tolist() == [
        0,
        0,
        1,
        1,
    ], "too few are repeated"
    with pytest.raises(ValueError, match="has no points"):
        pick_points(PointBatch(xyz, None, torch.tensor([0, 10, 10])), 4)


def test_a_step_is_the_weighted_mean_distance_and_trains_the_generator_only() -> None:
    generator = PointGenerator(WIDTH, 16, hidden=[20, 20])
    module = silent(GeneratorTraining(generator, CloudDistance(matching="exact"), loss_weight=30.0))
    data = batch()
    data.extras[FEATURES].requires_grad_()
    loss = module.training_step(data, 0)
    by_hand = CloudDistance(matching="exact")(generator(data.extras[FEATURES]), pick_points(data, 16)).mean()
    assert float(loss.detach()) == pytest.approx(30 * float(by_hand.detach()), rel=1e-6)
    assert float(module.train_loss.compute()) == pytest.approx(float(by_hand.detach()), rel=1e-6), (
        "what is logged is without the weight"
    )
    assert set(gradients(loss, module)) == {f"net.{n}" for n, _ in generator.named_parameters()}


def test_it_learns_to_draw_the_clouds(tmp_path: Path) -> None:
    """Six boxes known by their features alone."""
    guided = TaughtClouds(clouds(), features())
    loader = make_loader(guided, 6, True)
    module = GeneratorTraining(
        PointGenerator(WIDTH, POINTS, hidden=[64, 64]), CloudDistance(matching="exact"),
        optim=OptimConfig("adam", lr=3e-3, weight_decay=0.0, schedule="constant"), seed=1,
    )  # fmt: skip
    before = float(module.distances(batch()).mean())
    trainer = lightning.Trainer(
        max_epochs=120, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, loader)
    assert "train_accuracy" not in trainer.callback_metrics
    assert float(module.distances(batch()).mean()) < 0.4 * before


def test_files(tmp_path: Path) -> None:
    generator = PointGenerator(WIDTH, 16, hidden=[20, 24], seed=4)
    save_generator(tmp_path / "g.safetensors", generator, {"teacher_sha256": "abc"})
    again, facts = load_generator(tmp_path / "g.safetensors")
    x = torch.rand(2, WIDTH)
    assert facts == {"teacher_sha256": "abc"} and torch.equal(again(x), generator(x))
    assert not again.training and not any(p.requires_grad for p in again.parameters())
    with pytest.raises(FileNotFoundError, match="No point generator at"):
        load_generator(tmp_path / "none")
    (tmp_path / "text").write_text("nothing")
    with pytest.raises(GeneratorError, match="is no point generator, or damaged"):
        load_generator(tmp_path / "text")
    with torch.no_grad():
        next(generator.parameters()).fill_(float("nan"))
    save_generator(tmp_path / "nan", generator, {})
    with pytest.raises(GeneratorError, match="no finite numbers"):
        load_generator(tmp_path / "nan")


def test_refusals() -> None:
    with pytest.raises(ValueError, match="kind is 'conv', expected one of mlp, linear"):
        PointGenerator(kind="conv")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected positive numbers and two hidden widths"):
        PointGenerator(hidden=[4])
    with pytest.raises(ValueError, match=r"takes features of shape \(B, 12\), got \(2, 5\)"):
        PointGenerator(WIDTH, 4)(torch.rand(2, 5))
    with pytest.raises(
        ValueError, match=r"two of the same shape \(B, N, 3\), got \(1, 5, 3\) and \(1, 4, 3\)"
    ):
        CloudDistance()(torch.rand(1, 5, 3), torch.rand(1, 4, 3))
    with pytest.raises(ValueError, match="box is 'cube', expected one of centred, released, none"):
        CloudDistance("cube")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"epsilon is 0\.0"):
        CloudDistance(epsilon=0.0)
    with pytest.raises(ValueError, match=r"loss_weight is 0\.0"):
        GeneratorTraining(PointGenerator(WIDTH, 4), loss_weight=0.0)
    broken = PointGenerator(WIDTH, 16)
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    module = silent(GeneratorTraining(broken))
    module._current_lr = lambda: 0.1
    with pytest.raises(DivergenceError, match="loss became NaN"):
        module.training_step(batch(), 0)
