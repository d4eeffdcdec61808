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
    soft_divergence,
)
from pointlift.methods.pointcmt.inheritance import FeatureCode, fit_feature_code
from pointlift.methods.pointcmt.student import TransferConfig
from pointlift.methods.pointcmt.taught_clouds import FEATURES, TaughtClouds

TEACHER = 8  # width of a teacher that is not as wide as the student


def teacher(width: int = WIDTH) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return nn.Linear(width, CLASSES)


def module(method: str, width: int = WIDTH, **options: Any) -> KnowledgeDistillation:
    transfer = TransferConfig(method, **options)  # type: ignore[arg-type]
    coded = code(width) if method == "huang" else None
    made = KnowledgeDistillation(student(), CLASSES, width, transfer, teacher(width), coded, regime=None)
    return silent(made)  # type: ignore[no-any-return]


def code(width: int = WIDTH) -> FeatureCode:
    """One that nobody trained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return FeatureCode(width, WIDTH // 2)


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
        state = {
            k: v.detach().double().numpy()
            for k, v in made.learned.get_submodule(name).state_dict(keep_vars=True).items()
        }
        for part in ("", "0.", "2."):  # one linear layer, or two around a ReLU
            if f"{part}weight" in state:
                x = np.maximum(x, 0) if part == "2." else x
                x = x @ state[f"{part}weight"].T + state[f"{part}bias"]
        return np.asarray(x)

    def unit(x: np.ndarray) -> np.ndarray:
        return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))

    if method == "hinton":
        p, q = softmax(classify(t)), softmax(z)
        return float((p * np.log(p / q)).sum(1).mean())
    if method == "huang":
        half = WIDTH // 2
        c = unit(layer("inheritance.code.encoder", t))
        near = unit(layer("inheritance.inherit", f[:, :half]))
        far = unit(layer("inheritance.explore", f[:, half:]))
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
    assert float(made.training_step(data, 0)) == pytest.approx(ce + transfer, rel=2e-5), "eqs. 6 and 13: 1, 1"
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
    learned = {n for n, p in made.named_parameters() if n.startswith("learned.") and p.requires_grad}
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
    part = made.learned["inheritance"]
    compressed = functional.normalize(code().encode(data.extras[FEATURES]), dim=1)

    def alignment(x: Tensor) -> list[float]:
        half = WIDTH // 2
        parts = (part.inherit(x[:, :half]), part.explore(x[:, half:]))
        return [float((functional.normalize(p, dim=1) * compressed).sum(1).mean()) for p in parts]

    before = alignment(points)
    (gradient,) = torch.autograd.grad(
        made.transfer(points, torch.zeros(6, CLASSES), data.extras[FEATURES]), points
    )
    after = alignment(points - 0.1 * gradient)
    assert after[0] > before[0] and after[1] < before[1]


def test_the_code_restores_features_of_few_dimensions() -> None:
    """Three numbers lie behind nine channels: a code of three restores them, one of one does not."""
    draw = np.random.default_rng(0)
    rows = np.tanh(draw.normal(size=(300, 3)) @ draw.normal(size=(3, 9)) / 2).astype(np.float32)
    enough, little = fit_feature_code(rows, 3, steps=400), fit_feature_code(rows, 1, steps=400)
    left = float(
        ((enough(torch.from_numpy(rows)).numpy() - rows) ** 2).sum() / ((rows - rows.mean(0)) ** 2).sum()
    )
    assert enough.explained == pytest.approx(1 - left, abs=1e-4) and enough.explained > 0.7
    assert little.explained < enough.explained - 0.2 and not any(p.requires_grad for p in enough.parameters())
    first, again, other = (fit_feature_code(rows, 3, seed, steps=3) for seed in (0, 0, 1))
    assert all(torch.equal(x, y) for x, y in zip(first.state_dict().values(), again.state_dict().values()))
    assert not torch.equal(first.encoder[0].weight, other.encoder[0].weight)
    assert np.isnan(fit_feature_code(np.ones((4, 5), np.float32), 2, steps=1).explained), "nothing to explain"
    for bad in (np.ones((0, 5), np.float32), np.ones((4, 2), np.float32)):
        with pytest.raises(ValueError, match="cannot make codes of 3: expected at least one feature"):
            fit_feature_code(bad, 3)


def test_two_students_teach_each_other() -> None:
    """Each learns its own losses, and the other's answers as constants; the first alone is counted."""
    made = KnowledgeDistillation(
        student(),
        CLASSES,
        WIDTH,
        TransferConfig("huang", mutual=True),
        None,
        code(),
        regime="scratch",
        seed=4,
    )
    silent(made.eval())
    assert made.peer is not None
    data = batch()
    ours, theirs = made(data), made.peer(data)
    assert not torch.allclose(ours, theirs), "the second student starts from other weights"
    p, q = (softmax(x.detach().double().numpy()) for x in (ours, theirs))
    alone = [float(part._own_losses(data)[1]["loss"]) for part in (made, made.peer)]
    to_us, to_them = (float((a * np.log(a / b)).sum(1).mean()) for a, b in ((q, p), (p, q)))
    terms = made.losses(data)
    assert float(terms["mutual"]) == pytest.approx(to_us, rel=1e-4)
    assert float(terms["loss"]) == pytest.approx(sum(alone) + to_us + to_them, rel=1e-4)
    terms["mutual"].backward()
    assert all(x.grad is None for x in made.peer.parameters()), "the other's answer is a constant"
    assert any(x.grad is not None for x in made.net.parameters())
    optimised = {id(x) for x in made.trained_parameters()}
    assert {id(x) for x in [*made.net.parameters(), *made.peer.net.parameters()]} <= optimised
    with pytest.raises(ValueError, match="mutual is huang's, but method is 'yang'"):
        TransferConfig("yang", mutual=True)


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
        match="huang needs an auto-encoder of the image network's features of 12 channels, got none",
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
