"""`method: distillation` of a recipe: a teacher from few labels,
then a student from the teacher and the clouds without labels.

Image2Point v2, section 4.3 and table 5; the loss and what the paper leaves open are in
`pointlift.methods.distillation`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from torch import nn

from pointlift.data.config import DataConfig
from pointlift.data.dataset import CloudDataset
from pointlift.data.sample import Sample
from pointlift.data.training_clouds import CloudSplits, draw_labelled, load_splits, preprocessing
from pointlift.methods.base import Experiment, Place, Training
from pointlift.methods.cloud_classifiers import CloudClassifier, classifier_training
from pointlift.methods.distillation.module import CleanTwin, SemiSupervised, check_weights
from pointlift.methods.image2point import Image2Point
from pointlift.methods.optim import OptimConfig
from pointlift.models import image_network
from pointlift.models.config import ModelConfig
from pointlift.models.factory import is_own_code
from pointlift.weights.checkpoints import load, read_metadata

__all__ = ["DistillConfig", "Distillation", "semi_supervised_splits"]


@dataclass(frozen=True)
class DistillConfig:
    """How the student learns from the teacher.

    Attributes:
        consistency_weight: of the softmax MSE between student and teacher, on every cloud.
            The paper names no weights: 1 and 1.
        label_weight: of the cross entropy on the labelled clouds.
        teacher_sees: "augmented", the very cloud that the student sees, or "clean",
            that cloud as it is evaluated. The paper does not say.
        teacher_checkpoint: a checkpoint to use as the teacher instead of training one; `teacher` and
            `teacher_optim` then play no part, but for `teacher.image_model`, which names the code of a
            network of your own.
    """

    consistency_weight: float = 1.0
    label_weight: float = 1.0
    teacher_sees: Literal["augmented", "clean"] = "augmented"
    teacher_checkpoint: str | None = None

    def __post_init__(self) -> None:
        check_weights("distill", self.consistency_weight, self.label_weight)


@dataclass(frozen=True)
class Distillation(CloudClassifier):
    """Fine-tune `teacher` on the labelled clouds (in out/teacher),
    then train the student `model` on all training clouds (in `out`).

    data.shots (or share) says which clouds of the training split keep their labels; no other label of it
    reaches a network. The teacher is exactly what `Image2Point` makes of these settings and this seed. The
    student's weights and its randomness follow from another seed, derived from `seed`, so that a teacher from
    scratch of the same shape does not start from the same weights. Batches are drawn from labelled and
    unlabelled clouds together, each once per epoch. The metrics are the student's; teacher_val_accuracy and
    its like are measured on the teacher as the student saw it.
    """

    method: ClassVar[str] = "distillation"
    out: ClassVar[str] = "runs/distillation"

    model: ModelConfig = ModelConfig(regime="scratch")
    data: DataConfig = DataConfig(shots=10)
    teacher: ModelConfig = ModelConfig()
    teacher_optim: OptimConfig = OptimConfig()
    distill: DistillConfig = DistillConfig()

    def check(self, place: Place) -> None:
        """Raises ValueError where no clouds are labelled, and where teacher and student do not see the same
        clouds or classes.
        """
        _check_labelled(self.data)
        given = self.distill.teacher_checkpoint
        if given is not None:
            _check_given(Path(given), load_splits(self.data, self.seed), self.data, self.model.in_channels)
        elif self.teacher.in_channels != self.model.in_channels:
            raise ValueError(
                f"teacher.in_channels is {self.teacher.in_channels} and model.in_channels "
                f"{self.model.in_channels}, expected the same: both see the same clouds."
            )

    def stages(self) -> dict[str, Experiment]:
        if self.distill.teacher_checkpoint is not None:
            return {}
        return {"teacher": Image2Point(self.teacher, self.data, self.teacher_optim, self.trainer, self.seed)}

    def origins(self, place: Place) -> dict[str, str]:
        return {"teacher_sha256": str(read_metadata(self._teacher_file(place))["sha256"])}

    def build(self, place: Place) -> Training:
        splits = semi_supervised_splits(self.data, self.seed)
        channels, path = self.model.in_channels, self._teacher_file(place)
        twins = None
        if self.distill.teacher_sees == "clean":
            twins = CleanTwin(*(preprocessing(self.data, channels, training) for training in (True, False)))
        seed = int(np.random.SeedSequence([self.seed, 1]).generate_state(1)[0])
        clouds, net, settings = self.student(splits, seed, training=twins)
        weights: dict[str, Any] = {
            "consistency_weight": self.distill.consistency_weight,
            "label_weight": self.distill.label_weight,
        }
        module = SemiSupervised(
            net, _open_teacher(path, self.teacher), len(splits.train.classes), **weights, **settings
        )
        facts = {"distillation": _facts(splits, path)}
        return classifier_training(module, clouds, self.model, self.optim, facts, {"teacher": module.teacher})

    def _teacher_file(self, place: Place) -> Path:
        given = self.distill.teacher_checkpoint
        return place.stages["teacher"] if given is None else Path(given)


def semi_supervised_splits(data: DataConfig, seed: int) -> CloudSplits:
    """The clouds of `load_splits` with the whole training split,
    in which only the clouds that data.shots or data.share draw have a label.

    The labels of the others are -1 from here on. They are the clouds that `load_splits` would train on alone,
    with the same seeds.
    Raises ValueError where neither is given, and as `load_splits` does.
    """
    _check_labelled(data)
    whole = load_splits(replace(data, shots=None, share=None, val_fraction=None), seed)
    labelled, held = draw_labelled(whole.train, data, whole.seed, whole.train.classes)
    labels = np.full(len(whole.train), -1, dtype=np.int64)
    labels[labelled] = whole.train.labels[labelled]
    if held is None:
        return replace(whole, train=_Relabelled(whole.train, labels))
    seen = np.setdiff1d(np.arange(len(labels)), held)
    train = _Relabelled(whole.train.subset(seen), labels[seen])
    return replace(whole, train=train, val=whole.train.subset(held), test=whole.val)


class _Relabelled(CloudDataset):
    """The clouds of `dataset`, also those that it makes anew for every pass of training,
    with other labels; for loader processes too.
    """

    def __init__(self, dataset: CloudDataset, labels: npt.NDArray[np.int64]) -> None:
        self._dataset = dataset
        self._set(self._read, labels, dataset.classes, dataset.name, dataset.up_axis, dataset.paths)

    def draw(self, index: int, rng: np.random.Generator) -> Sample:
        return replace(self._dataset.draw(index, rng), label=int(self.labels[index]))

    def _read(self, index: int) -> Sample:
        return replace(self._dataset[index], label=int(self.labels[index]))


def _check_labelled(data: DataConfig) -> None:
    if data.shots is None and data.share is None:
        raise ValueError(
            "data: neither shots nor share is given, expected one of them: it says how many clouds of the "
            "training split are labelled."
        )


def _open_teacher(path: Path, config: ModelConfig) -> nn.Module:
    """The trained teacher; its voxel size is its own."""
    own = is_own_code(config.image_model) and read_metadata(path)["image_model"] == config.image_model
    return load(path, image_network(config.image_model) if own else None)


def _check_given(path: Path, splits: CloudSplits, data: DataConfig, in_channels: int) -> None:
    stored = read_metadata(path)
    here = {
        "classes": list(splits.train.classes),
        "features": data.features,
        "in_channels": in_channels,
        "normalisation": data.normalise,
    }
    for name, value in here.items():
        if name in stored and stored[name] != value:
            raise ValueError(
                f"distill.teacher_checkpoint: {path} was trained with {name} {_short(stored[name])}, but "
                f"here it is {_short(value)}: teacher and student must see the same clouds and tell the same "
                "classes apart."
            )


def _short(value: Any) -> str:
    return (
        f"{', '.join(value[:4])}{' ...' if len(value) > 4 else ''} ({len(value)})"
        if isinstance(value, list)
        else repr(value)
    )


def _facts(splits: CloudSplits, path: Path) -> dict[str, Any]:
    labelled = int((splits.train.labels >= 0).sum())
    return {
        "labelled_clouds": labelled,
        "unlabelled_clouds": len(splits.train) - labelled,
        "batches": "drawn from labelled and unlabelled clouds together, each once per epoch",
        "loss": (
            "mean over the batch of consistency_weight * softmax MSE + label_weight * cross entropy "
            "(labelled clouds only)"
        ),
        "teacher": path.name,
    }
