"""The baselines against literal formulas in float64 and numbers made by hand; what learns, what does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from tiny_student import CLASSES, WIDTH, batch, clouds, features, gradients, silent, student
from torch import Tensor, nn
from torch.nn import functional

from pointlift.data.loader import make_loader
from pointlift.methods.optim import OptimConfig
from pointlift.methods.pointcmt.baselines import (
    BASELINES,
    KnowledgeDistillation,
    normalize_1,
    normalize_2,
    principal_directions,
    soft_divergence,
)
from pointlift.methods.pointcmt.student import TransferConfig
from pointlift.methods.pointcmt.taught_clouds import FEATURES, TaughtClouds

TEACHER = 8  # width of a teacher that is not as wide as the student


def teacher(width: int = WIDTH) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return nn.Linear(width, CLASSES)


def module(method: str, width: int = WIDTH, **options: Any) -> KnowledgeDistillation:
    principal = principal_directions(features(20, width=width), WIDTH // 2) if method == "huang" else None
    transfer = TransferConfig(method, **options)  # type: ignore[arg-type]
    made = KnowledgeDistillation(student(), CLASSES, width, transfer, teacher(width), principal, regime=None)
    return silent(made)  # type: ignore[no-any-return]


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(1, keepdims=True))
    return np.asarray(e / e.sum(1, keepdims=True))


def test_normalize_1_by_hand() -> None:
    """Channel by channel: images 1, 3 have mean 2 and deviation 1, points 10, 30 mean 20 and deviation 10."""
    images, points = torch.tensor([[1.0, 5.0], [3.0, 5.0]]), torch.tensor([[10.0, 1.0], [30.0, 3.0]])
    assert normalize_1(images, points).tolist() == [[10.0, 2.0], [30.0, 2.0]], (
        "a channel that does not vary becomes the mean"
    )
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.randn(7, 4, generator=draw, dtype=torch.float64) * s + s for s in (3.0, 0.2))
    out = normalize_1(a, b)
    assert torch.allclose(out.mean(0), b.mean(0)) and torch.allclose(out.std(0), b.std(0))


def test_normalize_2_by_hand() -> None:
    """Norms 5 and 15, mean 10; points 2 and 4, mean 3."""
    images, points = torch.tensor([[3.0, 4.0], [9.0, 12.0]]), torch.tensor([[2.0, 0.0], [0.0, 4.0]])
    assert torch.allclose(normalize_2(images, points), images * 0.3)
    assert torch.equal(normalize_2(torch.zeros(2, 2), points), torch.zeros(2, 2))


def test_soft_divergence_is_hintons() -> None:
    draw = np.random.default_rng(0)
    t, s = draw.normal(size=(6, 4)) * 3, draw.normal(size=(6, 4)) * 3
    for temperature in (1.0, 4.0):
        p, q = softmax(t / temperature), softmax(s / temperature)
        expected = temperature**2 * (p * np.log(p / q)).sum(1).mean()
        found = soft_divergence(torch.from_numpy(t), torch.from_numpy(s), temperature)
        assert float(found) == pytest.approx(expected, rel=1e-5)


def literal_transfer(
    method: str, made: KnowledgeDistillation, points: Tensor, logits: Tensor, guide: Tensor
) -> float:
    f, t, z = (x.detach().double().numpy() for x in (points, guide, logits))
    image = teacher(t.shape[1]).double()
    cls = {k: v.detach().numpy() for k, v in image.state_dict().items()}

    def classify(x: np.ndarray) -> np.ndarray:
        return np.asarray(x @ cls["weight"].T + cls["bias"])

    def layer(name: str, x: np.ndarray) -> np.ndarray:
        state = {k: v.detach().double().numpy() for k, v in made.learned[name].state_dict().items()}
        return np.asarray(x @ state["weight"].T + state["bias"])

    def unit(x: np.ndarray) -> np.ndarray:
        return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))

    if method == "hinton":
        p, q = softmax(classify(t) / 4), softmax(z / 4)
        return float(16 * (p * np.log(p / q)).sum(1).mean())
    if method == "huang":
        half = WIDTH // 2
        mean, directions = (
            x.double().numpy() for x in principal_directions(features(20, width=t.shape[1]), half)
        )
        c = unit((t - mean) @ directions.T)
        near, far = unit(layer("inherit", f[:, :half])), unit(layer("explore", f[:, half:]))
        return float((((c - near) ** 2).sum(1) - ((c - far) ** 2).sum(1)).mean())
    r = layer("regressor", f) if t.shape[1] != WIDTH else f
    if method == "yang":
        p, q = softmax(classify(t)), softmax(classify(r))
        return float((p * np.log(p / q)).sum(1).mean() + ((r - t) ** 2).mean())
    if method == "normalize-1":
        t = (t - t.mean(0)) / t.std(0) * r.std(0) + r.mean(0)
    if method == "normalize-2":
        t = t / np.linalg.norm(t, axis=1).mean() * np.linalg.norm(r, axis=1).mean()
    return float(((r - t) ** 2).mean())


@pytest.mark.parametrize("method", BASELINES)
@pytest.mark.parametrize("width", [WIDTH, TEACHER])
def test_the_loss_is_what_the_text_says(method: str, width: int) -> None:
    made, data = module(method, width).eval(), batch(width=width)
    points, logits = made.encode(data), made(data)
    transfer = literal_transfer(method, made, points, logits, data.extras[FEATURES])
    assert float(made.transfer(points, logits, data.extras[FEATURES])) == pytest.approx(
        transfer, rel=2e-5, abs=1e-6
    )
    ce = float(functional.cross_entropy(logits, data.labels["class"]))
    usual = (0.1, 0.9) if method == "hinton" else (1.0, 1.0)
    assert float(made.training_step(data, 0)) == pytest.approx(usual[0] * ce + usual[1] * transfer, rel=2e-5)
    weighted = module(method, width, weight=5.0, label_weight=0.5).eval()
    assert float(weighted.training_step(data, 0)) == pytest.approx(0.5 * ce + 5 * transfer, rel=2e-5)


@pytest.mark.parametrize("method", BASELINES)
def test_what_the_transfer_reaches(method: str) -> None:
    made, data = module(method, TEACHER), batch(width=TEACHER)
    data.extras[FEATURES].requires_grad_(method not in ("normalize-1", "normalize-2"))
    points = made.encode(data)
    loss = made.transfer(points, made.classifier(points), data.extras[FEATURES])
    reached = set(gradients(loss, made))
    last = f"net.head.{len(made.net.head) - 1}."  # type: ignore[arg-type]
    student_names = {n for n, _ in made.named_parameters() if n.startswith("net.")}
    encoder = {n for n in student_names if not n.startswith(last)}
    learned = {n for n, _ in made.named_parameters() if n.startswith("learned.")}
    assert reached == (student_names if method == "hinton" else encoder | learned)
    assert all(not p.requires_grad for n, p in made.named_parameters() if n.startswith("teacher_classifier."))
    assert bool(learned) == (method != "hinton")


def test_normalisation_statistics_are_constants() -> None:
    """A student cannot lower the loss by shrinking its features: the gradient is that of a fixed target."""
    made, data = module("normalize-2"), batch()
    points = torch.rand(6, WIDTH, requires_grad=True)
    (found,) = torch.autograd.grad(
        made.transfer(points, torch.zeros(6, CLASSES), data.extras[FEATURES]), points
    )
    expected = 2 * (points.detach() - normalize_2(data.extras[FEATURES], points.detach())) / points.numel()
    assert torch.allclose(found, expected, atol=1e-7)


def test_inheritance_pulls_and_exploration_pushes() -> None:
    made, data = module("huang"), batch()
    points = torch.rand(6, WIDTH, requires_grad=True)
    mean, directions = made.principal_mean, made.principal_directions
    compressed = functional.normalize((data.extras[FEATURES] - mean) @ directions.T, dim=1)

    def alignment(x: Tensor) -> list[float]:
        half = WIDTH // 2
        parts = (made.learned["inherit"](x[:, :half]), made.learned["explore"](x[:, half:]))
        return [float((functional.normalize(p, dim=1) * compressed).sum(1).mean()) for p in parts]

    before = alignment(points)
    (gradient,) = torch.autograd.grad(
        made.transfer(points, torch.zeros(6, CLASSES), data.extras[FEATURES]), points
    )
    after = alignment(points - 0.1 * gradient)
    assert after[0] > before[0] and after[1] < before[1]


def test_principal_directions_are_those_of_the_singular_values() -> None:
    rows = features(50, width=9) * np.arange(1, 10, dtype=np.float32)
    mean, directions = principal_directions(rows, 4)
    centred = rows.astype(np.float64) - rows.mean(0)
    expected = np.linalg.svd(centred, full_matrices=False)[2][:4]
    assert np.allclose(mean, rows.mean(0), atol=1e-5)
    assert np.allclose(np.abs((directions.double().numpy() * expected).sum(1)), 1, atol=1e-5)
    few = principal_directions(features(3, width=9), 6)[1]
    assert torch.allclose(few @ few.T, torch.eye(6), atol=1e-5), "fewer objects than directions"
    with pytest.raises(ValueError, match="1 to 9 principal directions, asked for 10"):
        principal_directions(rows, 10)


def test_layers_beside_the_student_learn_and_the_teacher_does_not(tmp_path: Path) -> None:
    made = KnowledgeDistillation(
        student(),
        CLASSES,
        TEACHER,
        TransferConfig("yang"),
        teacher(TEACHER),
        regime=None,
        optim=OptimConfig(lr=0.05),
        seed=1,
    )
    before = {k: v.clone() for k, v in made.state_dict().items()}
    loader = make_loader(TaughtClouds(clouds(), features(width=TEACHER)), 3, True)
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(made, loader)
    moved = {k for k, v in made.state_dict().items() if not torch.equal(v, before[k])}
    assert {"learned.regressor.weight", "learned.regressor.bias"} <= moved
    assert not any(k.startswith("teacher_classifier.") for k in moved)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="method is 'kd', expected one of hinton, huang"):
        KnowledgeDistillation(student(), CLASSES, WIDTH, TransferConfig("kd"))  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match="hinton needs the image network's classifier of 12 channels and 3 classes, got none"
    ):
        KnowledgeDistillation(student(), CLASSES, WIDTH, TransferConfig("hinton"))
    with pytest.raises(ValueError, match="got one of 12 channels and 4 classes"):
        KnowledgeDistillation(student(), CLASSES, WIDTH, TransferConfig("yang"), nn.Linear(WIDTH, 4))
    with pytest.raises(
        ValueError,
        match="huang needs 6 principal directions of 12 channels, half the student's feature, got none",
    ):
        KnowledgeDistillation(student(), CLASSES, WIDTH, TransferConfig("huang"))
    wrong: dict[str, tuple[float, str]] = {
        "weight": (-1.0, "weight is -1.0, expected a finite number of 0 or more"),
        "temperature": (0.0, "temperature is 0.0 and teacher_batch_size 128, expected a positive number"),
        "label_weight": (float("inf"), "label_weight is inf, expected a finite number of 0 or more"),
    }
    for name, (value, sentence) in wrong.items():
        with pytest.raises(ValueError, match=sentence):
            TransferConfig("mse", **{name: value})  # type: ignore[arg-type]
