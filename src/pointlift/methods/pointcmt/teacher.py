"""PointCMT, stage I: an image network learns to classify objects from their views (section 3.2; facts 4.3).

for every batch of objects, each seen in V pictures:
    F_img  <- max over the views of trunk(picture)                      ViewNetwork
    loss   <- cross entropy of Linear(F_img) and the classes
    the paper: SGD, learning rate 0.01, batches of 128, 50 epochs; from scratch on ScanObjectNN:
               batches of 32, 1,000 epochs

The released code has Adam at a constant 1e-3 with weight decay 1e-4, label smoothing 0.2 over the other
classes and gradients summed over 4 batches of 32, which it does not divide by 4, and carries what remains of
an epoch into the next. The recipe modelnet40_released is that, but that Lightning takes the mean over the 4,
which Adam notices in its weight decay alone, and ends the group with the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from pointlift.data.config import DataConfig
from pointlift.data.loader import Loaders
from pointlift.data.pictures.config import ViewConfig
from pointlift.data.pictures.load import PictureData, ViewSplits, load_views
from pointlift.inflation import FinetuneReport
from pointlift.methods.base import Best, Experiment, Place, Training, optimizer_steps
from pointlift.methods.classification import Classification
from pointlift.methods.optim import OptimConfig
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.teachers.files import TeacherConfig, build_teacher, save_teacher
from pointlift.teachers.view_network import ViewNetwork

__all__ = ["TEACHER_OPTIM", "PictureClassification", "ViewTeacher", "picture_loaders"]

# section 4.1; of a schedule the paper says nothing
TEACHER_OPTIM = OptimConfig(lr=0.01, epochs=50, schedule="constant")


class PictureClassification(Classification):
    """Trains a `ViewNetwork`. Batches are (images (B, V, 3, H, W) float32 in 0-1, classes (B,) int64).

    Everything learns but what the image model itself never trains.
    Logged and raised as `Classification` does.
    """

    def __init__(self, net: ViewNetwork, num_classes: int, *options: Any, **named: Any) -> None:
        super().__init__(net, num_classes, None, *options, **named)
        trainable = sum(p.numel() for p in net.parameters() if p.requires_grad)
        self.finetune = FinetuneReport("all", trainable, sum(p.numel() for p in net.parameters()))

    def forward(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """(B, num_classes) logits of objects in pictures."""
        logits: Tensor = self.net(batch[0])
        return logits.float()

    def batch_size(self, batch: tuple[Tensor, Tensor]) -> int:
        return len(batch[1])

    def classes(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        target = batch[1]
        if bool((target < 0).any()):
            raise ValueError(
                f"{int((target < 0).sum())} objects of a batch have no class (label -1): leave them out."
            )
        return target


@dataclass(frozen=True)
class ViewTeacher(Experiment):
    """Train an image network to classify objects from pictures (PointCMT, stage I).

    The training objects are those that `Image2Point` trains on with the same data and seed. data.batch_size
    is in objects; data.augment plays no part without views.augment. Renderings are kept in out/views, or in
    views.cache. The last epoch is what is reported and written to model.safetensors, which `open_teacher`
    reads.
    """

    method: ClassVar[str] = "view_teacher"
    out: ClassVar[str] = "runs/view_teacher"
    best: ClassVar[Best] = ("val_accuracy", "max")

    teacher: TeacherConfig = TeacherConfig()
    views: ViewConfig = ViewConfig()
    data: DataConfig = DataConfig(batch_size=128)
    optim: OptimConfig = TEACHER_OPTIM
    trainer: TrainerConfig = TrainerConfig()
    seed: int = 0

    def check(self, place: Place) -> None:
        if self.teacher.checkpoint is not None:
            raise ValueError(
                "teacher.checkpoint names a finished teacher, but view_teacher trains one: leave it out."
            )

    def build(self, place: Place) -> Training:
        """Raises ValueError for a teacher, views or data that do not fit together,
        and as `load_splits` does.
        """
        pictures = load_views(self.views, self.data, self.seed, cache=place.folder / "views")
        pictures.prepare()
        loaders = picture_loaders(
            pictures, self.data, self.seed, self.trainer.devices * self.trainer.num_nodes
        )
        classes = pictures.clouds.train.classes
        net = build_teacher(self.teacher, len(classes), self.views.size, self.seed, pictures.train.n_views)
        steps = optimizer_steps(loaders.steps_per_epoch, self.optim.epochs, self.trainer)
        module = PictureClassification(net, len(classes), self.optim, self.seed, steps)
        seen = pictures.train.renderer()
        facts = {
            "data": pictures.clouds.describe(),
            "clouds_per_step_and_device": loaders.local_batch,
            "batch_norm": "statistics of each device's own pictures",
            "views": {**seen, "per_object": pictures.train.n_views, "augmented": self.views.augment},
            "embedding": net.embed_dim,
        }

        def save(path: Path, protocol: dict[str, Any]) -> None:
            save_teacher(path, net, self.teacher, classes, seen, protocol)

        return Training(module, loaders, self.optim.epochs, save, facts)


def picture_loaders(pictures: ViewSplits, data: DataConfig, seed: int, world_size: int) -> Loaders:
    """The loaders of a run on pictures: the order of the objects is that of the clouds with the same seed."""
    return Loaders(
        PictureData(pictures.train, training=True),
        PictureData(pictures.val, training=False),
        None if pictures.test is None else PictureData(pictures.test, training=False),
        batch_size=data.batch_size,
        seed=seed,
        world_size=world_size,
        num_workers=data.num_workers,
        name=pictures.clouds.train.name,
    )
