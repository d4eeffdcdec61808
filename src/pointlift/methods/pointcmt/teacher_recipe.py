"""`method: view_teacher` of a recipe: PointCMT's stage I, an image network that learns to classify objects from their views."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from pointlift.data.config import DataConfig
from pointlift.data.loader import CloudLoader, EpochSampler
from pointlift.data.pictures.load import ViewConfig, ViewSource, ViewSplits, load_views
from pointlift.data.training_clouds import CloudData
from pointlift.methods.optim import OptimConfig
from pointlift.methods.pointcmt.teacher import ImageBatch, ViewTeacher
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.methods.training import FitResult, optimization, record_training
from pointlift.runs.folder import RunFolder
from pointlift.runs.start import finished_result, recipe_of
from pointlift.teachers.files import TeacherConfig, build_teacher, save_teacher

__all__ = ["TeacherConfig", "ViewConfig", "ViewData", "fit_view_teacher"]

Key = tuple[int, int]
_TEACHER, _VIEWS, _DATA = TeacherConfig(), ViewConfig(), DataConfig(batch_size=128)
_OPTIM, _TRAINER = OptimConfig(lr=0.01, epochs=50), TrainerConfig()


class ViewData(CloudData):
    """The loaders of a run on pictures: the order of the objects is that of `CloudData` with the same seed."""

    def __init__(self, views: ViewSplits, config: DataConfig, seed: int, world_size: int) -> None:
        super().__init__(views.clouds, config, 3, seed, world_size)
        self.views = views

    def train_dataloader(self) -> CloudLoader:
        rank, world = self._place()
        sampler = EpochSampler(len(self.views.train), True, self.seed, rank, world)
        return self._loader(self.views.train, sampler, self.local_batch, True)

    def val_dataloader(self) -> CloudLoader:
        return self._evaluated(self.views.val)

    def test_dataloader(self) -> CloudLoader:
        assert self.views.test is not None
        return self._evaluated(self.views.test)

    def _evaluated(self, source: ViewSource) -> CloudLoader:
        rank, world = self._place()
        mine = _Share(len(source), rank, world)  # no object twice, unlike a padded sampler's
        return self._loader(source, mine, self.config.batch_size // world, False)

    def _loader(self, source: ViewSource, sampler: EpochSampler, batch_size: int, training: bool) -> CloudLoader:
        workers = self.config.num_workers
        return CloudLoader(
            _Keys(len(source)),
            batch_size=batch_size,
            sampler=sampler,
            num_workers=workers,
            collate_fn=partial(_collate, source, training),
            drop_last=training,
            persistent_workers=workers > 0,
            generator=torch.Generator().manual_seed(self.seed),
        )


class _Keys(Dataset[Key]):
    """(epoch, index) as it is: pictures are made of whole batches."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, key: Key) -> Key:
        return key


class _Share(EpochSampler):
    """Every `world`-th object in order, without repetition."""

    def __init__(self, n: int, rank: int, world: int) -> None:
        super().__init__(len(range(rank, n, world)) or 1, False, 0)
        self.indices = range(rank, n, world)

    def __iter__(self) -> Any:
        yield from ((self.epoch, index) for index in self.indices[self.skip :])

    def __len__(self) -> int:
        return len(self.indices)


def _collate(source: ViewSource, training: bool, keys: Sequence[Key]) -> ImageBatch:
    indices = [index for _, index in keys]
    return ImageBatch.of(source.images(indices, keys[0][0] if training else None), source.dataset.labels[indices].tolist())


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
