"""`method: point_generator` of a recipe: PointCMT's stage II,
clouds from the features of a trained image network (section 3.3).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pointlift.data.config import DataConfig
from pointlift.data.pictures.config import ViewConfig
from pointlift.methods.base import Experiment, Place, Training, optimizer_steps
from pointlift.methods.cloud_classifiers import cloud_facts, cloud_loaders
from pointlift.methods.optim import OptimConfig
from pointlift.methods.pointcmt.generator import (
    CloudDistance,
    GeneratorTraining,
    PointGenerator,
    save_generator,
)
from pointlift.methods.pointcmt.taught_clouds import teach, teacher_file
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.teachers.files import TeacherConfig, open_teacher

__all__ = ["GENERATOR_OPTIM", "GeneratorConfig", "PointGeneration"]


@dataclass(frozen=True)
class GeneratorConfig:
    """The cross-modal point generator, and the distance of clouds, which stages II and III share.

    Attributes:
        kind: "mlp", three fully connected layers (the paper), or "linear",
            dropout and one layer without bias (the released code).
        hidden: widths between the MLP's layers, which the paper leaves open.
        n_points: of a generated cloud; the training clouds are thinned to as many. 1,024 in the released
            code. The time of a matching grows with its square or faster.
        batch_size: clouds per step of stage II; the paper's.
        loss_weight: of the distance in stage II: 1 (the paper) or 30 (the released code).
        box: of both clouds before they are compared: "none" (the equations as written),
            "released" (facts T36) or "centred", what the released code meant.
        reduction: of the distances of matched points: "mean" (released;
            what alpha 30 belongs to) or "sum" (eqs. 4 and 5 as written).
        matching, epsilon: "auction", within `epsilon` (in longest sides around both clouds) of the best mean
            distance, or "exact".
        checkpoint: a finished generator (model.safetensors of stage II) to use in stage III instead of
            training one.
    """

    kind: Literal["mlp", "linear"] = "mlp"
    hidden: list[int] = field(default_factory=lambda: [1024, 1024])
    n_points: int = 1024
    batch_size: int = 32
    loss_weight: float = 1.0
    box: Literal["centred", "released", "none"] = "none"
    reduction: Literal["mean", "sum"] = "mean"
    matching: Literal["auction", "exact"] = "auction"
    epsilon: float = 0.01
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        if self.n_points < 1 or self.batch_size < 2:
            raise ValueError(
                f"generator: n_points is {self.n_points} and batch_size {self.batch_size}, "
                "expected at least 1 point and 2 clouds."
            )
        self.distance()

    def distance(self) -> CloudDistance:
        """L_EMD with these settings."""
        return CloudDistance(self.box, self.reduction, self.matching, self.epsilon)


GENERATOR_OPTIM = OptimConfig(optimizer="adam", lr=1e-3, weight_decay=0.0, epochs=50, schedule="constant")


@dataclass(frozen=True)
class PointGeneration(Experiment):
    """Train a point generator on the features of an image network:
    `teacher.checkpoint`, or stage I's where this is stage II.

    The features are made in out/features where they are not there yet. The metrics are train_loss and
    val_loss, the mean distance between clouds and what is generated of them; there are no classes. The last
    epoch is what is reported and written to model.safetensors.
    """

    method: ClassVar[str] = "point_generator"
    out: ClassVar[str] = "runs/point_generator"

    generator: GeneratorConfig = GeneratorConfig()
    teacher: TeacherConfig = TeacherConfig()
    views: ViewConfig = ViewConfig()
    data: DataConfig = DataConfig(augmentation="scale-shift")
    optim: OptimConfig = GENERATOR_OPTIM
    trainer: TrainerConfig = TrainerConfig()
    seed: int = 0

    def check(self, place: Place) -> None:
        """Raises ValueError where no teacher is named, or a generator."""
        if self.teacher.checkpoint is None and "teacher" not in place.stages:
            raise ValueError(
                "teacher.checkpoint is not given, expected the model.safetensors of a view_teacher run: the "
                "point generator learns from a trained image network (method pointcmt trains both)."
            )
        if self.generator.checkpoint is not None:
            raise ValueError(
                "generator.checkpoint names a finished generator, but point_generator trains one: "
                "leave it out."
            )

    def origins(self, place: Place) -> dict[str, str]:
        _, content = open_teacher(teacher_file(self.teacher, place), self.teacher)
        return {"teacher_sha256": str(content["identity"])}

    def build(self, place: Place) -> Training:
        """Raises as `teach` does."""
        config = self.generator
        teaching = teach(self.teacher, self.views, self.data, self.trainer, self.seed, place)
        data = replace(self.data, batch_size=config.batch_size, features="xyz")
        clouds = cloud_loaders(teaching.splits, data, 3, self.seed, self.trainer)
        net = PointGenerator(teaching.width, config.n_points, config.kind, config.hidden, self.seed)
        steps = optimizer_steps(clouds.steps_per_epoch, self.optim.epochs, self.trainer)
        module = GeneratorTraining(net, config.distance(), config.loss_weight, self.optim, self.seed, steps)
        told = {
            "distance": asdict(config.distance()),
            "loss": "mean over the batch; train_loss and val_loss are without loss_weight",
            "teacher": teaching.path.name,
        }
        classes = list(teaching.splits.train.classes)

        def save(path: Path, protocol: dict[str, Any]) -> None:
            save_generator(
                path, net, {"teacher_sha256": teaching.identity, "classes": classes, "protocol": protocol}
            )

        facts = {**cloud_facts(clouds), "point_generator": told}
        # which watches classes; this stage has none
        return Training(module, clouds, self.optim.epochs, save, facts, stops_early=False)
