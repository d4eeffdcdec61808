"""The seed of a recipe reaches everything that is drawn: the weights of the network, the stages before it,
the order of the data and the randomness of a step. Two seeds make different networks, the same seed the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fitting import fit_distillation, fit_image2point
from resuming import same, weights
from tiny_clouds import CLOUDS, TRAINER
from tiny_net import NAME
from tiny_pointcmt import DATA, OPTIM, STUDENT, TEACHER, WIDTH, settings
from torch import Tensor, nn

from pointlift.data.pictures.config import ViewConfig
from pointlift.data.training_clouds import CloudSplits, load_splits
from pointlift.methods.base import Experiment, Place, Training
from pointlift.methods.distillation import recipe as distilling
from pointlift.methods.distillation.recipe import Distillation, DistillConfig
from pointlift.methods.image2point import Image2Point
from pointlift.methods.image_pretraining.recipe import ImageDataConfig, ImageModelConfig, ImagePretraining
from pointlift.methods.optim import OptimConfig
from pointlift.methods.pointcmt import generator_recipe as drawing
from pointlift.methods.pointcmt import recipe as teaching
from pointlift.methods.pointcmt.generator_recipe import PointGeneration
from pointlift.methods.pointcmt.recipe import PointCMT
from pointlift.methods.pointcmt.student import TransferConfig
from pointlift.methods.pointcmt.taught_clouds import TaughtClouds, Teaching
from pointlift.methods.pointcmt.teacher import ViewTeacher
from pointlift.methods.segmentation.recipe import PartModelConfig, PartSegmentation
from pointlift.models import create_model
from pointlift.models.config import ModelConfig

FRESH = ModelConfig(NAME, regime="scratch")
FEW = replace(CLOUDS, shots=2)
PARTS = {"npoint": [16, 8], "nsample": [4, 4], "mlps": [[8, 8], [8, 16]], "global_mlp": [16, 24],
         "propagation": [[16], [16], [16, 8]], "head": [8]}  # fmt: skip
PICTURES = ImageDataConfig(categories=3, instances_per_class=2, image_size=24, val_instances=1)


def pointcmt(method: str) -> Callable[[int], Experiment]:
    return lambda seed: PointCMT(**settings(transfer=TransferConfig(method), seed=seed))  # type: ignore[arg-type]


def point_generator(seed: int) -> Experiment:
    given = settings()
    teacher = replace(TEACHER, checkpoint="stage 1")
    return PointGeneration(given["generator"], teacher, given["views"], DATA, given["generator_optim"],
                           given["trainer"], seed)  # fmt: skip


# every method that trains: what makes it of a seed
METHODS: dict[str, Callable[[int], Experiment]] = {
    "image2point": lambda seed: Image2Point(FRESH, FEW, OPTIM, TRAINER, seed),
    "image2point, points": lambda seed: Image2Point(STUDENT, DATA, OPTIM, TRAINER, seed),
    # only the layers that are new beside the image network
    "image2point, io": lambda seed: Image2Point(ModelConfig(NAME, regime="io"), FEW, OPTIM, TRAINER, seed),
    "distillation": lambda seed: Distillation(
        FRESH, FEW, OPTIM, TRAINER, seed, ModelConfig(NAME), OPTIM, DistillConfig()
    ),
    "view_teacher": lambda seed: ViewTeacher(TEACHER, ViewConfig(size=16), DATA, OPTIM, TRAINER, seed),
    "point_generator": point_generator,
    **{f"pointcmt, {method}": pointcmt(method) for method in ("pointcmt", "none", "hinton", "huang", "yang")},
    "part_segmentation": lambda seed: PartSegmentation(
        PartModelConfig("ssg", options=PARTS), replace(CLOUDS, classes=["table", "mug"]), OPTIM, TRAINER, seed
    ),
    "image_pretraining": lambda seed: ImagePretraining(
        ImageModelConfig("resnet18", options={"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]}),
        PICTURES, seed=seed,
    ),
}  # fmt: skip


@pytest.fixture
def without_stages(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Networks of the stages that nobody trained: a teacher, features, a generator.
    The seeds that features were asked for with.
    """
    asked: list[int] = []

    def teach(teacher: Any, views: Any, data: Any, trainer: Any, seed: int, place: Place) -> Teaching:
        asked.append(seed)
        splits = load_splits(data, seed)
        rng = np.random.default_rng(0)
        taught = [
            TaughtClouds(part, rng.normal(size=(len(part), WIDTH)).astype(np.float32))
            for part in (splits.train, splits.val)
        ]
        classifier = nn.Linear(WIDTH, len(splits.train.classes))
        return Teaching(CloudSplits(*taught, None), classifier, WIDTH, "0" * 64, Path("teacher"))

    for module in (teaching, drawing):
        monkeypatch.setattr(module, "teach", teach)
    drawn = drawing.PointGenerator(WIDTH, 16, hidden=[24, 24]).requires_grad_(False).eval()
    monkeypatch.setattr(teaching, "load_generator", lambda path: (drawn, {}))
    teacher = create_model(NAME, num_classes=3, voxel_size=0.15)
    monkeypatch.setattr(distilling, "_open_teacher", lambda path, config: teacher)
    return asked


def built(name: str, seed: int, folder: Path) -> Training:
    stages = {stage: folder / stage for stage in ("teacher", "generator")}
    torch.manual_seed(99)  # torch's own stream plays no part
    made = METHODS[name](seed).build(Place(folder, folder, stages))
    assert isinstance(made, Training)
    return made


def drawn(training: Training) -> dict[str, Tensor]:
    """What a method has drawn: everything that learns."""
    found = {n: p.detach().clone() for n, p in training.module.named_parameters() if p.requires_grad}
    assert found
    return found


def random_numbers(training: Training) -> Tensor:
    """Of a step."""
    training.module.on_train_batch_start(None, 3)
    return torch.rand(4)


def order(training: Training) -> list[int]:
    return list(training.data.train_dataloader().sampler)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if i % 3 else []) for i, n in enumerate(METHODS)]
)
def test_the_seed_reaches_weights_order_and_steps(
    name: str, without_stages: list[int], tmp_path: Path
) -> None:
    one, again, other = (built(name, seed, tmp_path) for seed in (5, 5, 6))
    assert same(drawn(one), drawn(again))
    changed = [n for n, p in drawn(one).items() if not torch.equal(p, drawn(other)[n])]
    matrices = [n for n, p in drawn(one).items() if p.ndim > 1]
    assert matrices and set(matrices) <= set(changed), "every weight that is drawn, by the seed"
    assert torch.equal(random_numbers(one), random_numbers(again))
    assert not torch.equal(random_numbers(one), random_numbers(other))
    assert order(one) == order(again) != order(other) and one.data.seed == 5
    assert set(without_stages) <= {5, 6}, "features of the clouds that this seed draws"
    # a student's own seed is derived, so that it is not its teacher's
    own = int(np.random.SeedSequence([5, 1]).generate_state(1)[0]) if name == "distillation" else 5
    assert one.module.seed == own


@pytest.mark.parametrize("name", ["distillation", "pointcmt, pointcmt", "pointcmt, hinton"])
def test_stages_have_the_seed_of_the_whole(name: str) -> None:
    for seed in (5, 6):
        stages = METHODS[name](seed).stages()
        assert stages and {stage.seed for stage in stages.values()} == {seed}  # type: ignore[attr-defined]


def test_a_student_of_the_teachers_shape_starts_elsewhere(without_stages: list[int], tmp_path: Path) -> None:
    """Distillation from a teacher that was trained from scratch with the same seed (table 5)."""
    teacher = Image2Point(FRESH, FEW, OPTIM, TRAINER, 5).build(Place(tmp_path, tmp_path))
    assert isinstance(teacher, Training)
    student = built("distillation", 5, tmp_path)
    first, second = dict(teacher.module.net.named_parameters()), dict(student.module.net.named_parameters())
    assert not [n for n, p in first.items() if p.ndim > 1 and torch.equal(p, second[n])]


def test_seeds_of_whole_distillations_make_different_students(tmp_path: Path) -> None:
    """The same teacher, the same labelled clouds: what differs is the student's own."""
    short = OptimConfig(lr=0.05, epochs=1)
    teacher = fit_image2point(ModelConfig(NAME), FEW, short, TRAINER, 1, tmp_path / "teacher")
    groups: dict[str, Any] = {
        "model": FRESH, "data": replace(FEW, split_seed=1), "optim": short, "trainer": TRAINER,
        "teacher": ModelConfig(NAME),
        "distill": DistillConfig(teacher_checkpoint=str(teacher.checkpoint)),
    }  # fmt: skip
    one, again, other = (
        weights(fit_distillation(**groups, seed=seed, out=tmp_path / folder))
        for seed, folder in ((1, "one"), (1, "again"), (2, "other"))
    )
    assert same(one, again)
    learned = [n for n, p in create_model(NAME, num_classes=3, voxel_size=0.15).named_parameters()]
    assert learned and not [n for n in learned if n in one and torch.equal(one[n], other[n])]
