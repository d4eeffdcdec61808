"""`method: view_teacher` of a recipe: PointCMT's stage I, an image network that learns to classify objects from their views."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pointlift.data.config import DataConfig
from pointlift.data.loader import Key, Loaders
from pointlift.data.pictures.load import PictureData, ViewConfig, ViewSplits, load_views
from pointlift.methods.optim import OptimConfig
from pointlift.methods.pointcmt.teacher import ImageBatch, ViewTeacher
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.methods.training import FitResult, optimization, record_training
from pointlift.runs.folder import RunFolder
from pointlift.runs.start import finished_result, recipe_of
from pointlift.teachers.files import TeacherConfig, build_teacher, save_teacher

__all__ = ["TeacherConfig", "ViewConfig", "ViewData", "fit_view_teacher"]

_TEACHER, _VIEWS, _DATA = TeacherConfig(), ViewConfig(), DataConfig(batch_size=128)
_OPTIM, _TRAINER = OptimConfig(lr=0.01, epochs=50), TrainerConfig()


class ViewData(Loaders):
    """The loaders of a run on pictures: the order of the objects is that of `CloudData` with the same seed."""

    def __init__(self, views: ViewSplits, config: DataConfig, seed: int, world_size: int) -> None:
        self.splits, self.config, self.views = views.clouds, config, views
        super().__init__(
            _Batches(views.train, True), _Batches(views.val, False), None if views.test is None else _Batches(views.test, False),
            batch_size=config.batch_size, seed=seed, world_size=world_size, num_workers=config.num_workers, name=views.clouds.train.name,
        )  # fmt: skip


class _Batches(PictureData):
    def collate(self, items: Sequence[Key]) -> ImageBatch:
        images, labels = super().collate(items)
        return ImageBatch(images, {"class": labels})


def fit_view_teacher(
    teacher: TeacherConfig = _TEACHER,
    views: ViewConfig = _VIEWS,
    data: DataConfig = _DATA,
    optim: OptimConfig = _OPTIM,
    trainer: TrainerConfig = _TRAINER,
    seed: int = 0,
    out: str | Path = "runs/view_teacher",
    resume: bool = False,
) -> FitResult:
    """Train an image network to classify objects from pictures (PointCMT, stage I); everything about the run is in `out` afterwards.

    The training objects are those that `fit_image2point` trains on with the same data and seed. data.batch_size is in objects;
    data.augment plays no part without views.augment. Renderings are kept in out/views, or in views.cache. The last epoch is what is
    reported and written to model.safetensors, which `open_teacher` reads. With `resume` the run goes on from last.ckpt and ends as if it
    had never stopped.

    Raises ValueError for a teacher, views or data that do not fit together, and otherwise as `fit_image2point` does.
    """
    recipe, folder = recipe_of("view_teacher", seed, teacher=teacher, views=views, data=data, optim=optim, trainer=trainer), RunFolder(out)
    if teacher.checkpoint is not None:
        raise ValueError("teacher.checkpoint names a finished teacher, but view_teacher trains one: leave it out.")
    if (finished := finished_result(folder, recipe, resume, FitResult.read)) is not None:
        return finished
    pictures = load_views(views, data, seed, cache=folder.path / "views")
    pictures.prepare()
    loaders = ViewData(pictures, data, seed, trainer.devices * trainer.num_nodes)
    classes = pictures.clouds.train.classes
    net = build_teacher(teacher, len(classes), views.size, seed)
    module = ViewTeacher(net, len(classes), seed=seed, **optimization(optim, trainer, loaders))
    seen = pictures.train.renderer()
    facts = {"views": {**seen, "per_object": pictures.train.n_views, "augmented": views.augment}, "embedding": net.embed_dim}

    def save(path: Path, protocol: dict[str, Any]) -> None:
        save_teacher(path, net, teacher, classes, seen, protocol)

    return record_training(module, loaders, folder, recipe, teacher.image(), optim, trainer, resume, facts, save=save)
