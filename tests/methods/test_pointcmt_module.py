"""Stage III: the losses against literal formulas, and which parameter learns from which term, one by one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from tiny_student import CLASSES, WIDTH, batch, clouds, features, gradients, silent, student
from torch import Tensor
from torch.nn import functional

from pointlift.data.dataset import collate
from pointlift.data.loader import make_loader
from pointlift.methods.method import DivergenceError
from pointlift.methods.optim import OptimConfig
from pointlift.methods.pointcmt.generator import CloudDistance, PointGenerator
from pointlift.methods.pointcmt.student import (
    PointCMTStudent,
    TransferConfig,
    classifier_enhancement,
    feature_enhancement,
)
from pointlift.methods.pointcmt.taught_clouds import FEATURES, TaughtClouds

EXACT = CloudDistance(matching="exact")


def module(generator: PointGenerator | None = None, **options: Any) -> PointCMTStudent:
    made = generator or PointGenerator(WIDTH, 8, hidden=[16, 16])
    made_module: PointCMTStudent = silent(
        PointCMTStudent(student(), CLASSES, WIDTH, made, TransferConfig(**options), EXACT, regime=None)
    )
    return made_module.train()


def literal_divergence(image: Tensor, point: Tensor) -> list[float]:
    """Eq. 7, sum over classes of P(x) log(P(x) / Q(x)), by hand."""
    rows = []
    for a, b in zip(image.tolist(), point.tolist(), strict=True):
        p, q = ([math.exp(v) / sum(map(math.exp, row)) for v in row] for row in (a, b))
        rows.append(sum(x * math.log(x / y) for x, y in zip(p, q, strict=True)))
    return rows


def names_of(made: PointCMTStudent, part: str) -> set[str]:
    last = f"net.head.{len(made.net.head) - 1}."  # type: ignore[arg-type]
    names = {n for n, _ in made.named_parameters() if n.startswith("net.")}
    return {n for n in names if n.startswith(last) == (part == "classifier")}


def test_classifier_enhancement_is_equation_7() -> None:
    draw = torch.Generator().manual_seed(0)
    image, point = (torch.randn(5, 4, generator=draw) for _ in range(2))
    rows = literal_divergence(image, point)
    assert float(classifier_enhancement(image, point)) == pytest.approx(sum(rows) / 5, rel=1e-5)
    assert float(classifier_enhancement(image, point, "sum")) == pytest.approx(sum(rows), rel=1e-5), (
        "the released reduction"
    )
    released = functional.kl_div(point.softmax(1).log(), image.softmax(1), reduction="sum")
    assert float(classifier_enhancement(image, point, "sum")) == pytest.approx(float(released), rel=1e-5)
    assert float(classifier_enhancement(point, image)) != pytest.approx(sum(rows) / 5, rel=1e-2), (
        "it is not symmetric"
    )
    assert float(classifier_enhancement(image, image)) == pytest.approx(0, abs=1e-6)
    far = classifier_enhancement(torch.tensor([[0.0, 200.0]]), torch.tensor([[200.0, 0.0]]))
    assert float(far) == pytest.approx(200), "where the logarithm of a softmax is infinite"


def test_dropout_is_the_classifiers() -> None:
    """F_pts is whole where it is compared; the student's own answers in training are those behind dropout."""
    made = PointCMTStudent(
        student(dropout=0.5),
        CLASSES,
        WIDTH,
        PointGenerator(WIDTH, 8, hidden=[16, 16]),
        None,
        EXACT,
        regime=None,
    )
    silent(made.train())
    dropout, data = made.dropout, batch()
    assert dropout is not None and dropout.p == 0.5 and dropout.training
    seen = list[Tensor]()
    hook = dropout.register_forward_hook(lambda _, given, out: seen.append(torch.stack([given[0], out])))
    torch.manual_seed(0)
    points = made.encode(data)
    whole, passed = seen.pop()
    assert torch.equal(whole, passed) and torch.equal(whole, points), "nothing is dropped of the feature"
    assert dropout.training, "and it goes on dropping afterwards"
    logits = made.classify(points)
    whole, dropped = seen.pop()
    assert torch.equal(whole, points) and bool((dropped[points > 0] == 0).any())
    assert torch.allclose(logits, made.classifier(dropped))
    seen.clear()
    made.losses(data)
    hook.remove()
    assert len(seen) == 2, "once for the encoder, once for the answers: the image's feature passes none"
    assert made.eval().dropout is not None and torch.equal(made.classify(points), made.classifier(points))
    assert module().dropout is not None, "one of probability 0"


def test_feature_enhancement_is_equation_5() -> None:
    generator = PointGenerator(WIDTH, 8, hidden=[16, 16]).eval()
    points, images = torch.rand(3, WIDTH), torch.rand(3, WIDTH)
    expected = EXACT(generator(points), generator(images)).mean()
    assert float(feature_enhancement(generator, points, images, EXACT)) == pytest.approx(
        float(expected), rel=1e-6
    )
    summed = feature_enhancement(generator, points, images, CloudDistance(reduction="sum", matching="exact"))
    assert float(summed) == pytest.approx(8 * float(expected), rel=1e-5)
    assert float(feature_enhancement(generator, images, images, EXACT)) == 0


@pytest.mark.parametrize(("alpha", "beta"), [(30.0, 0.3), (0.0, 0.3), (30.0, 0.0)])
def test_the_loss_is_the_weighted_sum(alpha: float, beta: float) -> None:
    made, data = module(alpha=alpha, beta=beta).eval(), batch()  # eval: the same batch statistics twice
    logits, points = made(data), made.encode(data)
    expected = float(functional.cross_entropy(logits, data.labels["class"]))
    if alpha:
        assert made.generator is not None
        expected += alpha * float(EXACT(made.generator(points), made.generator(data.extras[FEATURES])).mean())
    if beta:
        expected += beta * sum(literal_divergence(made.classifier(data.extras[FEATURES]), logits)) / 6
    assert float(made.training_step(data, 0)) == pytest.approx(expected, rel=1e-5)
    assert (made.generator is None) == (alpha == 0)


def test_every_term_reaches_what_section_3_4_says_and_nothing_else() -> None:
    made, data = module(), batch()
    data.extras[FEATURES].requires_grad_()
    encoder, classifier = names_of(made, "encoder"), names_of(made, "classifier")
    assert len(classifier) == 2 and len(encoder) + 2 == len(list(made.net.parameters()))
    points = made.encode(data)
    logits = made.classifier(points)
    assert made.generator is not None
    reached = {
        "classification": set(gradients(made.loss(logits, data.labels["class"]), made)),
        "feature": set(
            gradients(feature_enhancement(made.generator, points, data.extras[FEATURES], EXACT), made)
        ),
        "image branch": set(
            gradients(classifier_enhancement(made.classifier(data.extras[FEATURES]), logits.detach()), made)
        ),
        "point branch": set(
            gradients(classifier_enhancement(made.classifier(data.extras[FEATURES]).detach(), logits), made)
        ),
    }
    assert reached["classification"] == encoder | classifier
    assert reached["feature"] == encoder, (
        "through the frozen generator to the encoder, never to the classifier"
    )
    assert reached["image branch"] == classifier, "there is no encoder behind the image feature"
    assert reached["point branch"] == encoder | classifier
    assert not any(p.requires_grad for p in made.generator.parameters())
    images = data.extras[FEATURES]
    features_grad = torch.autograd.grad(
        feature_enhancement(made.generator, points, images, EXACT), images, allow_unused=True
    )
    assert features_grad == (None,), "the image's generated cloud is a constant"


def test_the_gradient_of_a_step_is_the_sum_of_its_terms() -> None:
    made, data = module(), batch()
    whole = gradients(made.training_step(data, 0), made)
    points = made.encode(data)  # training mode: the same batch statistics, dropout 0
    logits = made.classifier(points)
    assert made.generator is not None
    parts = [
        (1.0, made.loss(logits, data.labels["class"])),
        (30.0, feature_enhancement(made.generator, points, data.extras[FEATURES], EXACT)),
        (0.3, classifier_enhancement(made.classifier(data.extras[FEATURES]), logits)),
    ]
    summed = {n: torch.zeros_like(g) for n, g in whole.items()}
    for weight, term in parts:
        for name, gradient in gradients(term, made).items():
            summed[name] += weight * gradient
    for name, gradient in whole.items():
        # as a whole: single entries are differences of larger terms.
        # float32 leaves 2e-6, the smallest term is 3e-3 of the sum
        assert float((gradient - summed[name]).norm()) <= 3e-5 * float(gradient.norm()), name


def test_the_generator_never_moves_and_its_dropout_is_off(tmp_path: Path) -> None:
    generator = PointGenerator(WIDTH, 8, "linear")
    made = PointCMTStudent(
        student(), CLASSES, WIDTH, generator, None, EXACT, regime=None, optim=OptimConfig(lr=0.05), seed=1
    )
    before = {k: v.clone() for k, v in made.state_dict().items()}
    loader = make_loader(TaughtClouds(clouds(), features()), 3, True)
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(made, loader)
    after = made.state_dict()
    assert all(torch.equal(v, before[k]) for k, v in after.items() if k.startswith("generator."))
    assert all(not torch.equal(p, before[f"net.{n}"]) for n, p in made.net.named_parameters()), (
        "all of the student does"
    )
    assert {"classification", "feature_enhancement", "classifier_enhancement"} <= set(
        trainer.logged_metrics
    ) | set(trainer.callback_metrics)
    assert made.train() is made and not generator.training and made.net.training
    optimised = {id(p) for g in trainer.optimizers[0].param_groups for p in g["params"]}
    assert optimised == {id(p) for p in made.net.parameters()}


def test_a_trained_student_needs_no_images() -> None:
    made = module().eval()
    assert torch.equal(made(batch()), made.net(batch())) and made(collate(list(clouds()))).shape == (
        6,
        CLASSES,
    )


def test_refusals() -> None:
    generator = PointGenerator(WIDTH, 8)
    with pytest.raises(
        ValueError, match=r"student's feature has 10 channels and the image network's 12.*head: \[12\]"
    ):
        PointCMTStudent(student(width=10), CLASSES, WIDTH, generator)
    with pytest.raises(
        ValueError, match="takes features of 16 channels and the image network makes 12: train the generator"
    ):
        PointCMTStudent(student(), CLASSES, WIDTH, PointGenerator(16, 8))
    with pytest.raises(ValueError, match=r"feature enhancement \(alpha 30.0\) needs a point generator"):
        PointCMTStudent(student(), CLASSES, WIDTH, None)
    for weights in ({"alpha": -1.0}, {"beta": float("nan")}):
        with pytest.raises(ValueError, match="expected a finite number of 0 or more"):
            TransferConfig(**weights)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="kl_reduction is 'none'"):
        TransferConfig(kl_reduction="none")  # type: ignore[arg-type]
    broken = module()
    broken._current_lr = lambda: 0.1  # type: ignore[method-assign]
    with torch.no_grad():
        next(broken.net.parameters()).fill_(float("nan"))
    with pytest.raises(DivergenceError, match="loss became NaN"):
        broken.training_step(batch(), 0)
