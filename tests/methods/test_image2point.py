"""Image2Point's training step: schedule, what learns, what is measured, and what it says when it diverges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pointlift.core.point_batch import PointBatch
from pointlift.data.dataset import collate
from pointlift.data.sample import Sample
from pointlift.evaluate import classification_metrics
from pointlift.inflation import InflatedNetwork, inflate
from pointlift.methods.classification import Classification
from pointlift.methods.method import DivergenceError
from pointlift.methods.optim import OptimConfig, lr_factor
from pointlift.models import LinearNetwork, create_model


def network(classes: int = 3) -> InflatedNetwork:
    torch.manual_seed(3)
    image = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1, bias=False),
        nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    )  # fmt: skip
    return inflate(image, num_classes=classes, voxel_size=0.2)


def clouds(n: int = 12, classes: int = 3, seed: int = 0) -> list[Sample]:
    """Boxes whose proportions tell their class."""
    rng = np.random.default_rng(seed)
    shapes = np.array([[1, 1, 1], [1, 0.3, 1], [0.3, 1, 0.3]])[np.arange(n) % classes]
    return [
        Sample((rng.random((96, 3)) * shape).astype(np.float32), i % classes)
        for i, shape in enumerate(shapes)
    ]


def loader(n: int = 12, batch: int = 6) -> DataLoader[Any]:
    return DataLoader(clouds(n), batch, collate_fn=collate)  # type: ignore[arg-type]


def fit(module: Classification, folder: Path, epochs: int = 1, **options: Any) -> lightning.Trainer:
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        default_root_dir=folder, **options,
    )  # fmt: skip
    trainer.fit(module, loader(), loader())
    return trainer


def test_cosine_falls_once_from_one_to_zero() -> None:
    values = [lr_factor("cosine", step, 100, 5) for step in range(101)]
    assert values[0] == 1 and values[50] == pytest.approx(0.5) and values[100] == pytest.approx(0)
    assert np.all(np.diff(values) < 0)


def test_released_schedule_is_torchs_cosine_stepped_per_iteration() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
    for step in range(45):
        assert lr_factor("released", step, 1000, 10) == pytest.approx(
            optimizer.param_groups[0]["lr"], abs=1e-9
        )
        optimizer.step()
        scheduler.step()


def test_step_schedule_falls_to_a_tenth_after_each_third() -> None:
    values = [lr_factor("step", step, 90, 9) for step in range(90)]
    assert (
        values[:30] == [1.0] * 30
        and values[30:60] == pytest.approx([0.1] * 30)
        and values[60:] == pytest.approx([0.01] * 30)
    )


def test_plateau_halves_and_goes_on_after_a_checkpoint(tmp_path: Path) -> None:
    """The learning rate halves after 10 epochs without a lower loss,
    also where a run was cut in two in between.
    """

    class Flat(Classification):
        def training_step(self, batch: PointBatch, batch_idx: int) -> Tensor:
            loss: Tensor = super().training_step(batch, batch_idx)
            self.train_loss.reset()
            self.train_loss.update(1.0, 1)
            return 0.0 * loss

    def rates(parts: list[int], folder: Path) -> float:
        checkpoint = None
        for epochs in parts:
            module = Flat(network(), 3, "all", OptimConfig("adam", lr=0.1, schedule="plateau"))
            trainer = lightning.Trainer(
                max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
                enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
            )  # fmt: skip
            trainer.fit(module, loader(6), ckpt_path=checkpoint, weights_only=True)
            trainer.save_checkpoint(checkpoint := folder / "cut.ckpt")
        return float(module.trainer.optimizers[0].param_groups[0]["lr"])

    assert rates([11], tmp_path) == 0.1
    # the first epoch sets the mark, ten more may pass
    assert rates([12], tmp_path) == rates([5, 12], tmp_path) == 0.05


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_adam_is_torchs(name: Any, kind: type[torch.optim.Optimizer], tmp_path: Path) -> None:
    module = Classification(network(), 3, "all", OptimConfig(name, lr=1e-3, weight_decay=0.05))
    trainer = fit(module, tmp_path)
    assert (
        type(trainer.optimizers[0]) is kind and trainer.optimizers[0].param_groups[0]["weight_decay"] == 0.05
    )
    assert trainer.callback_metrics["train_loss"].isfinite()


def test_one_step_is_the_papers_sgd(tmp_path: Path) -> None:
    """Two steps of the module against SGD written out: momentum 0.9, weight decay 1e-4,
    the second step at half the rate.
    """
    net, reference = (LinearNetwork(num_classes=3, channels=4) for _ in range(2))
    net.voxel_size = reference.voxel_size = 0.2
    module = Classification(net, 3, "all")
    reference.load_state_dict(module.net.state_dict())
    fit(module, tmp_path)
    twin = Classification(reference, 3)
    velocity = {n: torch.zeros_like(p) for n, p in reference.named_parameters()}
    for step, batch in enumerate(loader()):
        reference.zero_grad()
        nn.functional.cross_entropy(twin(batch), batch.labels["class"]).backward()
        with torch.no_grad():
            for name, parameter in reference.named_parameters():
                assert parameter.grad is not None
                velocity[name] = 0.9 * velocity[name] + parameter.grad + 1e-4 * parameter
                parameter -= 0.1 * (1.0 if step == 0 else 0.5) * velocity[name]
    for (name, got), expected in zip(module.net.named_parameters(), reference.parameters()):
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize(("regime", "moves_weight", "moves_affine", "moves_statistics"), [
    ("io", False, False, False), ("io+stats", False, False, True), ("io+bn", False, True, True),
    ("all", True, True, True),
])  # fmt: skip
def test_regimes_move_what_they_say(
    tmp_path: Path, regime: str, moves_weight: bool, moves_affine: bool, moves_statistics: bool
) -> None:
    net = network()
    module = Classification(net, 3, regime)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    trainer = fit(module, tmp_path, epochs=2)
    after = net.state_dict()

    def moved(name: str) -> bool:
        return not torch.equal(before[name], after[name])

    assert moved("stem.0.weight") and moved("head.0.weight")
    assert moved("backbone.3.weight") == moves_weight
    assert moved("backbone.4.weight") == moves_affine
    assert moved("backbone.4.running_mean") == moves_statistics
    in_optimizer = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    assert in_optimizer == {id(p) for p in net.parameters() if p.requires_grad}


def test_measures_what_evaluate_measures(tmp_path: Path) -> None:
    module = Classification(network(), 3, "all", OptimConfig(lr=0.02))
    trainer = fit(module, tmp_path, epochs=2)
    module.eval()
    with torch.no_grad():
        logits = torch.cat([module(batch) for batch in loader()])
    target = torch.tensor([s.label for s in clouds()])
    expected = classification_metrics(logits, target, ("a", "b", "c"))
    got = trainer.callback_metrics
    assert float(got["val_accuracy"]) == pytest.approx(expected.overall_accuracy)
    assert float(got["val_class_accuracy"]) == pytest.approx(expected.class_mean_accuracy)
    assert float(got["val_loss"]) == pytest.approx(
        float(nn.functional.cross_entropy(logits, target)), rel=1e-5
    )
    assert {"train_loss", "train_accuracy", "lr"} <= set(got)


def test_point_batches_and_mixed_precision(tmp_path: Path) -> None:
    module = Classification(network(), 3, "all")
    fit(module, tmp_path, precision="bf16-mixed")
    module.eval()
    one = clouds(3)
    plain = PointBatch.from_list([s.xyz for s in one])
    assert torch.equal(module(plain), module(collate(one)))
    assert module(plain).dtype == torch.float32


class Exploding(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, cloud: PointBatch) -> Tensor:
        logits = torch.zeros(len(cloud), 3)
        logits[:, 0] = self.value
        return logits * self.weight


@pytest.mark.parametrize(("value", "word"), [(float("nan"), "NaN"), (float("-inf"), "infinite")])
def test_divergence_is_one_sentence(tmp_path: Path, value: float, word: str) -> None:
    with pytest.raises(
        DivergenceError,
        match=rf"loss became {word} at step 0 \(epoch 0\): lower the learning rate \(it is 3 ",
    ) as error:
        fit(Classification(Exploding(value), 3, optim=OptimConfig(lr=3.0)), tmp_path)
    assert "\n" not in str(error.value)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected lr > 0"):
        OptimConfig(lr=0.0)
    with pytest.raises(
        ValueError,
        match=r"schedule must be one of cosine, poly, exponential, step, .* constant, got 'steps'",
    ):
        OptimConfig(schedule="steps")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"optimizer must be one of sgd, adam, adamw, got 'lion'"):
        OptimConfig(optimizer="lion")  # type: ignore[arg-type]
    frozen = network().requires_grad_(False)
    with pytest.raises(ValueError, match="No parameter of the network is trainable"):
        fit(Classification(frozen, 3), tmp_path)
    unknown = collate([Sample(np.zeros((4, 3)), -1), Sample(np.ones((4, 3)), 1)])
    with pytest.raises(ValueError, match="1 clouds of a batch have no class"):
        Classification(network(), 3).training_step(unknown, 0)


def test_exponential_counts_steps() -> None:
    """PointContrast: 0.99 after every 250 steps, x 0.0887 at 60,000 (facts 2.4: its first counts too)."""
    config = OptimConfig(lr=0.5, schedule="exponential", decay_factor=0.99, decay_steps=250, epochs=15)
    factors = [config.lr_factor(step, 60_000, 15) for step in (0, 249, 250, 500, 59_999)]
    assert factors == pytest.approx([1, 1, 0.99, 0.99**2, 0.99**239])
    assert config.lr_factor(59_999, 60_000, 15) == pytest.approx(0.09, abs=0.002)
    with pytest.raises(ValueError, match="decay_steps=0"):
        OptimConfig(decay_steps=0)


def test_cosine_ends_at_its_floor_and_decay_stops_there() -> None:
    assert lr_factor("cosine", 0, 100, 5, floor=0.1) == 1 and lr_factor(
        "cosine", 100, 100, 5, floor=0.1
    ) == pytest.approx(0.1)
    # RS-CNN: x 0.7 every 21 of 200 epochs, down to a hundredth (facts 5.4); 10 steps an epoch
    values = [lr_factor("decay", step, 2000, 200, 0.01, (0.7, 21)) for step in range(2000)]
    assert values[209] == 1 and values[210] == pytest.approx(0.7) and values[1999] == pytest.approx(0.7**9)
    assert lr_factor("decay", 1999, 2000, 200, 0.1, (0.7, 21)) == 0.1


def test_smoothing_over_the_others_is_dgcnns_loss() -> None:
    net, classes, eps = create_model("pointnet2-ssg", num_classes=5), 5, 0.2
    module = Classification(net, classes, optim=OptimConfig(label_smoothing=eps, smoothing="others"))
    logits, target = torch.randn(7, classes, dtype=torch.float64), torch.arange(7) % classes
    wanted = torch.full((7, classes), eps / (classes - 1), dtype=torch.float64).scatter(
        1, target[:, None], 1 - eps
    )
    torch.testing.assert_close(module.loss(logits, target), -(wanted * logits.log_softmax(1)).sum(1).mean())
    with pytest.raises(ValueError, match="leaves nothing for the true one"):
        Classification(net, 2, optim=OptimConfig(label_smoothing=0.5, smoothing="others"))


def test_the_momentum_of_batch_statistics_halves_down_to_its_floor(tmp_path: Path) -> None:
    """RS-CNN's 0.9, 0.45, ... (facts 5.4), every second epoch here;
    a run cut in the middle of an epoch has the momentum of that epoch.
    """

    class Watched(Classification):
        def training_step(self, batch: PointBatch, batch_idx: int) -> Tensor:
            momenta.append(
                {m.momentum for m in self.net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
            )
            return super().training_step(batch, batch_idx)

    momenta: list[set[float | None]] = []
    optim = OptimConfig(lr=0.01, bn_momentum=0.9, bn_decay=0.5, bn_floor=0.3, decay_epochs=2)
    module = Watched(network(), 3, "all", optim)
    trainer = fit(module, tmp_path, 6)
    assert momenta == [{m} for m in (0.9,) * 4 + (0.45,) * 4 + (0.3,) * 4], "two steps an epoch"
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    momenta.clear()
    longer = lightning.Trainer(
        max_epochs=7, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    longer.fit(
        Watched(network(), 3, "all", optim), loader(), ckpt_path=tmp_path / "last.ckpt", weights_only=True
    )
    assert momenta == [{0.3}, {0.3}]


def test_the_newest_batch_has_its_share_of_the_statistics(tmp_path: Path) -> None:
    """running = (1 - m) * running + m * batch, m = 0.75 and nothing else:
    one step from mean 0 gives 0.75 of the batch's mean.
    """
    whole, part = network(), network()
    fit(Classification(whole, 3, "all", OptimConfig(bn_momentum=1.0)), tmp_path, limit_train_batches=1)
    fit(Classification(part, 3, "all", OptimConfig(bn_momentum=0.75)), tmp_path, limit_train_batches=1)
    of_whole, of_part = (
        next(m for m in net.modules() if isinstance(m, nn.BatchNorm1d)) for net in (whole, part)
    )
    assert (
        of_whole.running_mean is not None
        and of_part.running_mean is not None
        and of_whole.running_mean.abs().max() > 0.01
    )
    torch.testing.assert_close(of_part.running_mean, 0.75 * of_whole.running_mean)


def test_settings_of_the_batch_statistics_out_of_range() -> None:
    for wrong in (
        {"bn_momentum": 0.0},
        {"bn_momentum": 0.5, "bn_decay": 1.5},
        {"bn_momentum": 0.5, "bn_floor": 0.6},
    ):
        with pytest.raises(
            ValueError,
            match=r"expected 0 < bn_momentum <= 1, 0 < bn_decay <= 1 and 0 <= bn_floor <= bn_momentum",
        ):
            OptimConfig(**wrong)
    with pytest.raises(ValueError, match="without bn_momentum, which they change"):
        OptimConfig(bn_decay=0.5)
    with pytest.raises(ValueError, match="Linear has no batch normalisation"):
        Classification(nn.Linear(3, 3), 3, optim=OptimConfig(bn_momentum=0.9))
