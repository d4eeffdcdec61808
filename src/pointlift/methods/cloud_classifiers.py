"""What the methods that end in a classifier of clouds have in common, whatever they learn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import lightning

from pointlift.data.config import DataConfig
from pointlift.data.dataset import CloudDataset
from pointlift.data.likeness import outline_ranges
from pointlift.data.training_clouds import CloudData, CloudSplits, load_splits
from pointlift.methods.base import Best, Experiment, Training, optimizer_steps
from pointlift.methods.classification import Classification
from pointlift.methods.optim import OptimConfig
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.config import ModelConfig
from pointlift.nn import CloudNetwork
from pointlift.weights.checkpoints import save_checkpoint
from pointlift.weights.network import build_network

__all__ = [
    "CloudClassifier",
    "accuracies",
    "classifier_training",
    "cloud_config",
    "cloud_facts",
    "cloud_loaders",
]


@dataclass(frozen=True)
class CloudClassifier(Experiment):
    """A recipe whose network, `model`, learns to classify the clouds of `data`."""

    best: ClassVar[Best] = ("val_accuracy", "max")
    task: ClassVar[str] = "classify"

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    trainer: TrainerConfig = TrainerConfig()
    seed: int = 0

    def student(
        self, splits: CloudSplits, seed: int, **loading: Any
    ) -> tuple[CloudData, CloudNetwork, dict[str, Any]]:
        """The loaders of `splits`, the network `model`, and how it is trained:
        keyword arguments of `Classification`.

        seed: of new weights and of the steps; the loaders have the recipe's. loading: of `CloudData`.
        """
        clouds = cloud_loaders(splits, self.data, self.model.in_channels, self.seed, self.trainer, **loading)
        net = build_network(self.model, len(splits.train.classes), seed, self.data.voxel_size)
        steps = optimizer_steps(clouds.steps_per_epoch, self.optim.epochs, self.trainer)
        return (
            clouds,
            net,
            {"regime": self.model.regime, "optim": self.optim, "seed": seed, "total_steps": steps},
        )

    def judged(self) -> CloudDataset:
        splits = load_splits(self.data, self.seed)
        return splits.val if splits.test is None else splits.test

    def summary(self, result: Any) -> str:
        metrics = result.metrics
        lines = [f"{accuracies(metrics, result.best)}; {result.seconds:.0f} s"]
        teacher = metrics.get("teacher_test_accuracy", metrics.get("teacher_val_accuracy"))
        if teacher is not None:
            lines.append(f"accuracy of its teacher {100 * teacher:.1f} %")
        share = 100 * result.trainable / result.total
        return "\n".join(
            [*lines, f"{result.trainable:,} of {result.total:,} parameters were trained ({share:.2f} %)"]
        )


def accuracies(metrics: Mapping[str, float], best: Mapping[str, float]) -> str:
    """The accuracies of a run in a sentence that says which split each was measured on.

    metrics, best: of its `RunResult`.
    """
    if not best:
        only = metrics.get("test_accuracy", metrics["val_accuracy"])
        return f"accuracy {100 * only:.1f} % after the last epoch"
    epoch, chosen = f"epoch {best['epoch'] + 1:.0f}", f"{100 * best['val_accuracy']:.1f} %"
    if "test_accuracy" not in metrics:
        last = f"accuracy on the test split {100 * metrics['val_accuracy']:.1f} % after the last epoch"
        return f"{last} ({chosen} after {epoch}, the best one, chosen on this very split)"
    found = f", {100 * best['test_accuracy']:.1f} % after {epoch}" if "test_accuracy" in best else ""
    return (
        f"accuracy on the test split {100 * metrics['test_accuracy']:.1f} % after the last epoch{found}"
        f", the best one on the held-out part of the training split ({chosen} there)"
    )


def cloud_loaders(
    splits: CloudSplits,
    data: DataConfig,
    in_channels: int,
    seed: int,
    trainer: TrainerConfig,
    **options: Any,
) -> CloudData:
    """The loaders of a run on clouds, for as many devices as `trainer` names. options: of `CloudData`."""
    return CloudData(splits, data, in_channels, seed, trainer.devices * trainer.num_nodes, **options)


def cloud_facts(clouds: CloudData) -> dict[str, Any]:
    """Of the protocol of a run on clouds."""
    return {
        "data": clouds.splits.describe(),
        "clouds_per_step_and_device": clouds.local_batch,
        "batch_norm": "statistics of each device's own clouds",
    }


def cloud_config(clouds: CloudData) -> dict[str, Any]:
    """Of a checkpoint's metadata: what has to be done with a cloud before the network sees it."""
    data, train = clouds.config, clouds.splits.train
    return {
        "in_channels": clouds.channels,
        "voxel_size": data.voxel_size,
        "features": data.features,
        "columns": list(train.columns),
        "normalisation": data.normalise,
        "n_points": data.n_points,
        "thinning": data.thinning,
        "points_seed": clouds.splits.seed,
        "mesh_points": train.mesh_points or data.n_points,
        "up_axis": train.up_axis,
        "seen": outline_ranges(train, scaled=data.normalise != "none"),
    }


def classifier_training(
    module: Classification,
    clouds: CloudData,
    model: ModelConfig,
    optim: OptimConfig,
    facts: Mapping[str, Any] | None = None,
    also: Mapping[str, lightning.LightningModule] | None = None,
) -> Training:
    """`module` around its network `model` on `clouds`, exported as a checkpoint of the task classify."""
    net, classes = module.net, clouds.splits.train.classes
    config: dict[str, Any] = {
        "task": "classify",
        "image_model": model.image_model,
        "image_options": model.image_options,
        "network": net.kind,
        "inflate": net.arguments,
        "num_classes": len(classes),
        "classes": list(classes),
        "regime": model.regime,
        **cloud_config(clouds),
    }

    def save(path: Path, protocol: dict[str, Any]) -> None:
        save_checkpoint(path, net, {**config, "protocol": protocol})

    return Training(
        module, clouds, optim.epochs, save, {**cloud_facts(clouds), **(facts or {})}, also=also or {}
    )
