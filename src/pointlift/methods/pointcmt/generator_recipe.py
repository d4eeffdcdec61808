"""`method: point_generator` of a recipe: PointCMT's stage II, clouds from the features of a trained image network (section 3.3)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pointlift.data.config import DataConfig
from pointlift.data.pictures.load import ViewConfig
from pointlift.methods.optim import OptimConfig
from pointlift.methods.pointcmt.generator import CloudDistance, GeneratorTraining, PointGenerator, save_generator
from pointlift.methods.pointcmt.guided_data import GuidedData, Guides, check_same_origin, guide_splits
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.methods.training import FitResult, optimization, record_training
from pointlift.models.config import ModelConfig
from pointlift.runs.folder import RunFolder
from pointlift.runs.start import finished_result, recipe_of
from pointlift.system.distributed import process_rank, wait_for_others
from pointlift.teachers.files import TeacherConfig

__all__ = ["GeneratorConfig", "fit_point_generator", "train_generator"]


@dataclass(frozen=True)
class GeneratorConfig:
    """The cross-modal point generator, and the distance of clouds, which stages II and III share.

    Attributes:
        kind: "mlp", three fully connected layers (the paper), or "linear", dropout and one layer without bias (the released code).
        hidden: widths between the MLP's layers, which the paper leaves open.
        n_points: of a generated cloud; the training clouds are thinned to as many. 1,024 in the released code. The time of a matching grows
            with its square or faster.
        batch_size: clouds per step of stage II; the paper's.
        loss_weight: of the distance in stage II: 1 (the paper) or 30 (the released code).
        box: of both clouds before they are compared: "centred", "released" (facts T36) or "none" (the equations as written).
        reduction: of the distances of matched points: "mean" (released; what alpha 30 belongs to) or "sum" (eqs. 4 and 5 as written).
        matching, epsilon: "auction", within `epsilon` (in box sides) of the best mean distance, or "exact".
        checkpoint: a finished generator (model.safetensors of stage II) to use in stage III instead of training one.
    """

    kind: Literal["mlp", "linear"] = "mlp"
    hidden: list[int] = field(default_factory=lambda: [1024, 1024])
    n_points: int = 1024
    batch_size: int = 32
    loss_weight: float = 1.0
    box: Literal["centred", "released", "none"] = "centred"
    reduction: Literal["mean", "sum"] = "mean"
    matching: Literal["auction", "exact"] = "auction"
    epsilon: float = 0.01
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        if self.n_points < 1 or self.batch_size < 2:
            raise ValueError(
                f"generator: n_points is {self.n_points} and batch_size {self.batch_size}, expected at least 1 point and 2 clouds."
            )
        self.distance()

    def distance(self) -> CloudDistance:
        """L_EMD with these settings."""
        return CloudDistance(self.box, self.reduction, self.matching, self.epsilon)


_TEACHER, _VIEWS, _DATA, _GENERATOR = TeacherConfig(), ViewConfig(), DataConfig(augmentation="scale-shift"), GeneratorConfig()
_OPTIM = OptimConfig(optimizer="adam", lr=1e-3, weight_decay=0.0, epochs=50, schedule="constant")
_TRAINER = TrainerConfig()


def fit_point_generator(
    generator: GeneratorConfig = _GENERATOR,
    teacher: TeacherConfig = _TEACHER,
    views: ViewConfig = _VIEWS,
    data: DataConfig = _DATA,
    optim: OptimConfig = _OPTIM,
    trainer: TrainerConfig = _TRAINER,
    seed: int = 0,
    out: str | Path = "runs/point_generator",
    resume: bool = False,
) -> FitResult:
    """Train a point generator on the features of `teacher.checkpoint`, which are made in out/features where they are not there yet.

    The metrics are train_loss and val_loss, the mean distance between clouds and what is generated of them; there are no classes. The last
    epoch is what is reported and written to model.safetensors. Resumes exactly; a finished run is not repeated.

    Raises ValueError where no teacher is named, and as `guide_splits` and `fit_image2point` do.
    """
    if teacher.checkpoint is None:
        raise ValueError(
            "teacher.checkpoint is not given, expected the model.safetensors of a view_teacher run: the point generator learns from a "
            "trained image network (method pointcmt trains both)."
        )
    if generator.checkpoint is not None:
        raise ValueError("generator.checkpoint names a finished generator, but point_generator trains one: leave it out.")
    recipe, folder = _recipe(generator, teacher, views, data, optim, trainer, seed), RunFolder(out)
    if (finished := finished_result(folder, recipe, resume, FitResult.read)) is not None:
        return finished
    places = folder.path / "features", folder.path / "views"
    guides = guide_splits(Path(teacher.checkpoint), teacher, views, data, trainer, seed, *places)
    return _train(guides, folder, recipe, generator, data, optim, trainer, seed, resume)


def train_generator(
    guides: Guides,
    generator: GeneratorConfig,
    teacher: TeacherConfig,
    views: ViewConfig,
    data: DataConfig,
    optim: OptimConfig,
    trainer: TrainerConfig,
    seed: int,
    out: Path,
) -> Path:
    """Stage II within a run of all stages: the generator's file in `out`, trained here as far as it is not yet."""
    folder = RunFolder(out)
    recipe = _recipe(generator, teacher, views, data, optim, trainer, seed)
    if folder.result.is_file():
        if process_rank() == 0:
            folder.check_same(recipe)
            check_same_origin(folder, "point_generator", {"teacher_sha256": guides.identity})
        return folder.final
    going_on = folder.last.is_file()
    if process_rank() == 0:
        folder.check(recipe, going_on)
    result = _train(guides, folder, recipe, generator, data, optim, trainer, seed, going_on)
    wait_for_others()
    return result.checkpoint


def _recipe(
    generator: GeneratorConfig,
    teacher: TeacherConfig,
    views: ViewConfig,
    data: DataConfig,
    optim: OptimConfig,
    trainer: TrainerConfig,
    seed: int,
) -> dict[str, Any]:
    groups: dict[str, Any] = {"generator": generator, "teacher": teacher, "views": views, "data": data, "optim": optim, "trainer": trainer}
    return recipe_of("point_generator", seed, **groups)


def _train(
    guides: Guides,
    folder: RunFolder,
    recipe: dict[str, Any],
    config: GeneratorConfig,
    data: DataConfig,
    optim: OptimConfig,
    trainer: TrainerConfig,
    seed: int,
    resume: bool,
) -> FitResult:
    if resume and process_rank() == 0:
        check_same_origin(folder, "point_generator", {"teacher_sha256": guides.identity})
    trainer = replace(trainer, early_stop_patience=None)  # it watches classes, which this stage has not
    loaders = GuidedData(
        guides.splits, replace(data, batch_size=config.batch_size, features="xyz"), 3, seed, trainer.devices * trainer.num_nodes
    )
    net = PointGenerator(guides.width, config.n_points, config.kind, config.hidden, seed)
    module = GeneratorTraining(net, config.distance(), config.loss_weight, seed=seed, **optimization(optim, trainer, loaders))
    facts = {
        "best_epoch": "none is chosen: the last is what is used",
        "point_generator": {
            "distance": asdict(config.distance()),
            "loss": "mean over the batch; train_loss and val_loss are without loss_weight",
            "teacher": guides.path.name,
            "teacher_sha256": guides.identity,
        },
    }

    def save(path: Path, protocol: dict[str, Any]) -> None:
        save_generator(path, net, {"teacher_sha256": guides.identity, "classes": list(guides.splits.train.classes), "protocol": protocol})

    return record_training(module, loaders, folder, recipe, ModelConfig(), optim, trainer, resume, facts, save=save)
