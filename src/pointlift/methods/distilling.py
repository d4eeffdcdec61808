"""`method: distillation` of a recipe: a teacher from few labels, then a student from the teacher and the clouds without labels.

Image2Point v2, section 4.3 and table 5; the loss and what the paper leaves open are in `pointlift.methods.distillation`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from pointlift.core.sparse_tensor import PointBatch
from pointlift.data.config import DataConfig
from pointlift.data.dataset import CloudDataset, collate
from pointlift.data.sample import Sample
from pointlift.data.splits import fraction, k_shot
from pointlift.data.training_clouds import CloudData, CloudSplits, load_splits, preprocessing
from pointlift.methods.distillation import Distillation, TwoViews, ViewBatch, check_weights
from pointlift.methods.optim import OptimConfig
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.methods.training import FitResult, fit_image2point, optimization, record_training
from pointlift.models import image_network
from pointlift.models.config import ModelConfig
from pointlift.models.factory import is_own_code
from pointlift.runs.folder import RunFolder, RunFolderError
from pointlift.runs.start import finished_result, recipe_of
from pointlift.system.distributed import process_rank
from pointlift.weights.checkpoints import load, read_metadata
from pointlift.weights.network import build_network

__all__ = ["DistillConfig", "fit_distillation", "semi_supervised_splits"]


@dataclass(frozen=True)
class DistillConfig:
    """How the student learns from the teacher.

    Attributes:
        consistency_weight: of the softmax MSE between student and teacher, on every cloud. The paper names no weights: 1 and 1.
        label_weight: of the cross entropy on the labelled clouds.
        teacher_sees: "augmented", the very cloud that the student sees, or "clean", that cloud as it is evaluated. The paper does not say.
        teacher_checkpoint: a checkpoint to use as the teacher instead of training one; `teacher` and `teacher_optim` then play no part,
            but for `teacher.image_model`, which names the code of a network of your own.
    """

    consistency_weight: float = 1.0
    label_weight: float = 1.0
    teacher_sees: Literal["augmented", "clean"] = "augmented"
    teacher_checkpoint: str | None = None

    def __post_init__(self) -> None:
        check_weights("distill", self.consistency_weight, self.label_weight)


_STUDENT, _TEACHER, _DATA = ModelConfig(regime="scratch"), ModelConfig(), DataConfig(shots=10)
_OPTIM, _DISTILL, _TRAINER = OptimConfig(), DistillConfig(), TrainerConfig()


def fit_distillation(
    model: ModelConfig = _STUDENT,
    teacher: ModelConfig = _TEACHER,
    data: DataConfig = _DATA,
    optim: OptimConfig = _OPTIM,
    teacher_optim: OptimConfig = _OPTIM,
    distill: DistillConfig = _DISTILL,
    trainer: TrainerConfig = _TRAINER,
    seed: int = 0,
    out: str | Path = "runs/distillation",
    resume: bool = False,
) -> FitResult:
    """Fine-tune `teacher` on the labelled clouds (in out/teacher), then train the student `model` on all training clouds (in `out`).

    data.shots (or share) says which clouds of the training split keep their labels; no other label of it reaches a network. The
    teacher is exactly what `fit_image2point` makes of these settings and this seed. The student's weights and its randomness follow
    from another seed, derived from `seed`, so that a teacher from scratch of the same shape does not start from the same weights.
    Batches are drawn from labelled and unlabelled clouds together, each once per epoch. The result's metrics are the student's;
    teacher_val_accuracy and its like are measured on the teacher as the student saw it.

    Both stages resume exactly; a finished teacher is not trained again. Raises what `fit_image2point` raises, and ValueError where no
    clouds are labelled or a given teacher was trained for other classes or other input.
    """
    groups: dict[str, Any] = {"model": model, "teacher": teacher, "data": data, "optim": optim, "teacher_optim": teacher_optim}
    recipe, folder = recipe_of("distillation", seed, **groups, distill=distill, trainer=trainer), RunFolder(out)
    if distill.teacher_checkpoint is None and teacher.in_channels != model.in_channels:
        raise ValueError(
            f"teacher.in_channels is {teacher.in_channels} and model.in_channels {model.in_channels}, expected the same: both see the same "
            "clouds."
        )
    if (finished := finished_result(folder, recipe, resume, FitResult.read, ("teacher",))) is not None:
        return finished
    splits = semi_supervised_splits(data, seed)
    loading: dict[str, Any] = {}
    if distill.teacher_sees == "clean":
        views = TwoViews(*(preprocessing(data, model.in_channels, training) for training in (True, False)))
        loading = {"training": views, "collate": _joined}
    clouds = CloudData(splits, data, model.in_channels, seed, trainer.devices * trainer.num_nodes, **loading)
    student_seed = int(np.random.SeedSequence([seed, 1]).generate_state(1)[0])
    net = build_network(model, len(splits.train.classes), student_seed)
    given = distill.teacher_checkpoint
    if given is not None:
        _check_given(Path(given), splits, data, model.in_channels)
    elif process_rank() == 0 and not folder.last.is_file():
        folder.start(recipe, {"recipe": recipe, "stage": "training the teacher"})
    path = _teacher_checkpoint(teacher, data, teacher_optim, trainer, seed, folder.path / "teacher") if given is None else Path(given)
    taught, voxel_size, identity = _open_teacher(path, teacher)
    weights = {"consistency_weight": distill.consistency_weight, "label_weight": distill.label_weight}
    options = {"teacher_voxel_size": voxel_size, **weights, "seed": student_seed, **optimization(optim, trainer, clouds)}
    module = Distillation(net, taught, len(splits.train.classes), model.regime, data.voxel_size, **options)
    resume = resume and folder.last.is_file()
    if resume:
        _check_same_teacher(folder, identity)
    facts = {"distillation": _facts(splits, path, identity)}
    return record_training(module, clouds, folder, recipe, model, optim, trainer, resume, facts, {"teacher": module.teacher})


def semi_supervised_splits(data: DataConfig, seed: int) -> CloudSplits:
    """The clouds of `load_splits` with the whole training split, in which only the clouds that data.shots or data.share draw have a label.

    The labels of the others are -1 from here on. They are the clouds that `load_splits` would train on alone, with the same seeds.
    Raises ValueError where neither is given, and as `load_splits` does.
    """
    if data.shots is None and data.share is None:
        raise ValueError(
            "data: neither shots nor share is given, expected one of them: it says how many clouds of the training split are labelled."
        )
    whole = load_splits(replace(data, shots=None, share=None), seed)
    train, draw = whole.train, seed if data.split_seed is None else data.split_seed
    if data.shots is not None:
        chosen = k_shot(train.labels, data.shots, draw, train.classes)
    else:
        assert data.share is not None
        chosen = fraction(train.labels, data.share, draw, train.classes)
    labels = np.full(len(train), -1, dtype=np.int64)
    labels[chosen] = train.labels[chosen]
    return replace(whole, train=_Relabelled(train, labels))


class _Relabelled(CloudDataset):
    """The clouds of `dataset`, also those that it makes anew for every pass of training, with other labels; for loader processes too."""

    def __init__(self, dataset: CloudDataset, labels: npt.NDArray[np.int64]) -> None:
        self._dataset = dataset
        self._set(self._read, labels, dataset.classes, dataset.name, dataset.up_axis, dataset.paths)

    def draw(self, index: int, rng: np.random.Generator) -> Sample:
        return replace(self._dataset.draw(index, rng), label=int(self.labels[index]))

    def _read(self, index: int) -> Sample:
        return replace(self._dataset[index], label=int(self.labels[index]))


def _joined(samples: Sequence[Sample]) -> ViewBatch | PointBatch:
    return ViewBatch.collate(samples) if hasattr(samples[0], "clean") else collate(samples)


def _teacher_checkpoint(teacher: ModelConfig, data: DataConfig, optim: OptimConfig, trainer: TrainerConfig, seed: int, out: Path) -> Path:
    """The weights of the teacher, trained here as far as it is not yet; whether the run may go on has been checked."""
    folder = RunFolder(out)
    if folder.result.is_file() and process_rank() > 0:  # a process that was launched for the second stage only
        return folder.final
    going_on = folder.result.is_file() or folder.last.is_file()
    result = fit_image2point(teacher, data, optim, trainer, seed, out, resume=going_on)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()  # the first process writes the file
    return result.checkpoint


def _open_teacher(path: Path, config: ModelConfig) -> tuple[nn.Module, float, str]:
    """The teacher, its voxel size, and the checksum of its weights."""
    stored = read_metadata(path)
    own = is_own_code(config.image_model) and stored["image_model"] == config.image_model
    net = load(path, image_network(config.image_model) if own else None)
    return net, float(stored["voxel_size"]), str(stored["sha256"])


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
                f"distill.teacher_checkpoint: {path} was trained with {name} {_short(stored[name])}, but here it is {_short(value)}: "
                "teacher and student must see the same clouds and tell the same classes apart."
            )


def _short(value: Any) -> str:
    return f"{', '.join(value[:4])}{' ...' if len(value) > 4 else ''} ({len(value)})" if isinstance(value, list) else repr(value)


def _check_same_teacher(folder: RunFolder, identity: str) -> None:
    try:
        stored = json.loads((folder.path / "protocol.json").read_text(encoding="utf-8"))["distillation"]["teacher_sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(
            f"{folder.path / 'protocol.json'} cannot be read ({type(error).__name__}): without it the run cannot be resumed."
        ) from None
    if stored != identity:
        raise RunFolderError(
            f"The student in {folder.path} learned from another teacher (its weights have the checksum {stored[:12]}, those here "
            f"{identity[:12]}): put the teacher back, or start in another folder."
        )


def _facts(splits: CloudSplits, path: Path, identity: str) -> dict[str, Any]:
    labelled = int((splits.train.labels >= 0).sum())
    return {
        "labelled_clouds": labelled,
        "unlabelled_clouds": len(splits.train) - labelled,
        "batches": "drawn from labelled and unlabelled clouds together, each once per epoch",
        "loss": "mean over the batch of consistency_weight * softmax MSE + label_weight * cross entropy (labelled clouds only)",
        "teacher": path.name,
        "teacher_sha256": identity,
    }
