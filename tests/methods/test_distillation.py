"""The step of semi-supervised distillation: what the loss is, who learns, and that the teacher is a rock."""

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
from pointlift.data.transforms import Compose, Jitter, Shift
from pointlift.inflation import InflatedNetwork, inflate
from pointlift.methods.classification import Classification
from pointlift.methods.distillation.module import CleanTwin, SemiSupervised, softmax_mse
from pointlift.methods.distillation.recipe import DistillConfig
from pointlift.methods.method import DivergenceError
from pointlift.methods.optim import OptimConfig


def network(seed: int = 3) -> InflatedNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        image = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1, bias=False),
            nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
        )  # fmt: skip
    return inflate(image, num_classes=3, seed=seed, voxel_size=0.2)


def clouds(n: int = 12, labelled: int = 3, seed: int = 0) -> list[Sample]:
    """Boxes whose proportions tell their class; the first `labelled` of them have a label."""
    rng = np.random.default_rng(seed)
    shapes = np.array([[1, 1, 1], [1, 0.3, 1], [0.3, 1, 0.3]])[np.arange(n) % 3]
    return [
        Sample((rng.random((96, 3)) * s).astype(np.float32), i % 3 if i < labelled else -1)
        for i, s in enumerate(shapes)
    ]


def fit(module: SemiSupervised, folder: Path, samples: list[Sample], epochs: int = 1) -> lightning.Trainer:
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(module, DataLoader(samples, 6, collate_fn=collate))  # type: ignore[arg-type]
    return trainer


class Fixed(nn.Module):
    """Gives the logits it was told, whatever it sees."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, x: Any) -> Tensor:
        return self.logits


def fixed(student: Tensor, teacher: Tensor, **options: Any) -> SemiSupervised:
    module = SemiSupervised(Fixed(student), Fixed(teacher), student.shape[1], None, **options)
    # there is no trainer to log to
    module.log = module.log_dict = lambda *_, **__: None  # type: ignore[method-assign,assignment]
    return module


def test_softmax_mse_is_the_sum_of_squares_over_the_number_of_classes() -> None:
    student, teacher = (
        torch.randn(5, 4, generator=torch.Generator().manual_seed(0)),
        torch.tensor([[9.0, 0, -9, 2]]).repeat(5, 1),
    )
    for i, value in enumerate(softmax_mse(student, teacher)):
        p, q = (np.exp(x[i].double().numpy()) for x in (student, teacher))
        assert float(value) == pytest.approx(sum((p / p.sum() - q / q.sum()) ** 2) / 4, rel=1e-5)
    assert float(softmax_mse(teacher, teacher).max()) == 0
    far = softmax_mse(torch.tensor([[50.0, 0, 0, 0]]), torch.tensor([[0.0, 50, 0, 0]]))
    assert float(far) == pytest.approx(2 / 4), "the largest value there is"
    assert torch.allclose(softmax_mse(student + 3, teacher - 7), softmax_mse(student, teacher), atol=1e-6)
    with pytest.raises(ValueError, match=r"\(5, 4\) and the teacher's \(5, 3\)"):
        softmax_mse(student, teacher[:, :3])


def test_the_loss_by_hand() -> None:
    student, teacher = (
        torch.randn(6, 3, generator=torch.Generator().manual_seed(1)),
        torch.eye(3).repeat(2, 1) * 4,
    )
    samples = clouds(6, labelled=2)
    batch = collate(samples)
    p, q = student.softmax(1), teacher.softmax(1)
    consistency = ((p - q) ** 2).sum(1).mean() / 3
    # every cloud of the batch counts in the mean
    labels = sum(-torch.log(p[i, samples[i].label]) for i in range(2)) / 6
    assert float(fixed(student, teacher).training_step(batch, 0)) == pytest.approx(
        float(consistency + labels), rel=1e-6
    )
    weighted = fixed(student, teacher, consistency_weight=5.0, label_weight=0.5).training_step(batch, 0)
    assert float(weighted) == pytest.approx(float(5 * consistency + labels / 2), rel=1e-6)
    unlabelled = fixed(student, teacher)
    assert float(unlabelled.training_step(collate(clouds(6, 0)), 0)) == pytest.approx(
        float(consistency), rel=1e-6
    )
    assert float(unlabelled.train_loss.compute()) == pytest.approx(float(consistency), rel=1e-6)


def test_the_gradient_goes_to_the_student_only() -> None:
    module = fixed(torch.randn(6, 3), torch.randn(6, 3))
    module.training_step(collate(clouds(6)), 0).backward()
    assert float(module.net.get_parameter("logits").grad.abs().sum()) > 0  # type: ignore[union-attr]
    assert all(p.grad is None and not p.requires_grad for p in module.teacher.parameters())


def test_a_teacher_never_moves(tmp_path: Path) -> None:
    module = SemiSupervised(network(4), network(5), 3, optim=OptimConfig(lr=0.1), seed=1)
    before = {k: v.clone() for k, v in module.teacher.net.state_dict().items()}
    student = {k: v.clone() for k, v in module.net.state_dict().items()}
    assert module.train() is module and not any(m.training for m in module.teacher.modules())
    assert all(m.training for m in module.net.modules())
    fit(module, tmp_path, clouds(), epochs=2)
    assert all(torch.equal(v, before[k]) for k, v in module.teacher.net.state_dict().items()), (
        "weights and running statistics"
    )
    moved = [k for k, v in module.net.state_dict().items() if not torch.equal(v, student[k])]
    assert len(moved) == len(student), "all of the student does"


def test_a_student_starts_from_random_weights_and_not_from_the_teachers() -> None:
    """The released code starts from the teacher's (facts 1.10)."""
    teacher = network(5)
    module = SemiSupervised(network(5), teacher, 3, "scratch", seed=8)
    pairs = zip(module.net.named_parameters(), teacher.parameters(), strict=True)
    assert not any(torch.equal(a, b) for (n, a), b in pairs if a.ndim == 3)


@pytest.mark.slow
def test_consistency_alone_teaches_without_any_label(tmp_path: Path) -> None:
    teacher = network(5)
    labelled = DataLoader(clouds(24, 24), 6, collate_fn=collate)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD(teacher.parameters(), 0.1, momentum=0.9)
    school = Classification(teacher, 3)
    for _ in range(15):
        for batch in labelled:
            optimizer.zero_grad()
            nn.functional.cross_entropy(school(batch), batch.labels["class"]).backward()
            optimizer.step()
    unknown, test = clouds(24, 0), collate(clouds(30, 30, seed=9))
    module = SemiSupervised(network(6), teacher, 3, optim=OptimConfig(lr=0.3), seed=2, total_steps=100)
    trainer = fit(module, tmp_path, unknown, epochs=25)
    assert (
        "train_accuracy" not in trainer.callback_metrics
        and float(trainer.callback_metrics["train_loss"]) < 0.03
    )
    right = [
        (m.eval()(test).argmax(1) == test.labels["class"]).float().mean() for m in (module.teacher, module)
    ]
    assert float(right[0]) > 0.8 and float(right[1]) > 0.8, "three classes: chance is 0.33"


def test_a_cloud_with_its_twin_is_augmented_as_alone() -> None:
    augmented, clean = Compose([Shift(p=1.0), Jitter(p=1.0)]), Compose([])
    sample = clouds(1, 1)[0]
    seen = CleanTwin(augmented, clean)(sample, np.random.default_rng(4))
    assert np.array_equal(seen.xyz, augmented(sample, np.random.default_rng(4)).xyz) and seen.label == 0
    batch = collate([seen, seen]).to("cpu")
    assert len(batch) == 2 and not torch.equal(batch.xyz, batch.extras["clean"].xyz)
    assert np.array_equal(batch.extras["clean"].xyz[:96].numpy(), sample.xyz)


def test_a_teacher_sees_the_clean_cloud_where_there_is_one() -> None:
    seen: dict[str, PointBatch] = {}

    class Spy(SemiSupervised):
        def forward(self, batch: PointBatch) -> Tensor:
            seen["student"] = batch
            return super().forward(batch)

    module = Spy(Fixed(torch.zeros(2, 3)), Fixed(torch.zeros(2, 3)), 3, None)
    module.log = module.log_dict = lambda *_, **__: None  # type: ignore[method-assign,assignment]
    module.teacher.register_forward_pre_hook(lambda _, arguments: seen.update(teacher=arguments[0]))
    views = [CleanTwin(Shift(p=1.0), Compose([]))(s, np.random.default_rng(1)) for s in clouds(2, 2)]
    batch = collate(views)
    module.training_step(batch, 0)
    assert seen["teacher"] is batch.extras["clean"] and seen["student"] is batch


def test_refusals() -> None:
    for weights in (
        {"consistency_weight": -1.0},
        {"consistency_weight": 0.0, "label_weight": 0.0},
        {"label_weight": float("nan")},
    ):
        with pytest.raises(ValueError, match="expected finite numbers of 0 or more, not both 0"):
            SemiSupervised(network(), network(), 3, **weights)
        with pytest.raises(ValueError, match="distill: consistency_weight is"):
            DistillConfig(**weights)
    with pytest.raises(ValueError, match="expected lr > 0"):
        SemiSupervised(network(), network(), 3, optim=OptimConfig(lr=0.0))


def test_divergence_is_named(tmp_path: Path) -> None:
    module = SemiSupervised(network(4), network(5), 3, seed=1)
    with torch.no_grad():
        next(module.net.parameters()).fill_(float("nan"))
    with pytest.raises(DivergenceError, match="loss became NaN at step 0"):
        fit(module, tmp_path, clouds())
