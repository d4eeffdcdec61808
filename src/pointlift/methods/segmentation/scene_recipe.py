"""`method: scene_segmentation` of a recipe: any network of points learns the classes of rooms or streets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from pointlift.data.dataset import CloudDataset
from pointlift.data.scene_clouds import SceneData, SceneSplits, load_scenes
from pointlift.data.scene_config import SceneDataConfig
from pointlift.data.scene_features import FEATURES
from pointlift.evaluate.scenes import AbsentRule
from pointlift.methods.base import Best, Experiment, Place, Training, optimizer_steps
from pointlift.methods.optim import OptimConfig
from pointlift.methods.segmentation.scenes import ClassWeights, SceneLabelling, class_weights
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.config import ModelConfig
from pointlift.models.factory import POINT_NETWORKS
from pointlift.nn import CloudNetwork
from pointlift.weights.checkpoints import save_checkpoint
from pointlift.weights.network import build_network

__all__ = ["SceneLossConfig", "SceneSegmentation"]


@dataclass(frozen=True)
class SceneLossConfig:
    """What is learned from, and how it is judged.

    Attributes:
        class_weights: of the loss: "none" (the papers), "sqrt" (one over the root of a class's share of the
            training points) or "inverse" (one over the share); the mean weight is 1.
        absent: what a class that is neither in truth nor in prediction counts for in the mIoU: "skip" (not
            among those averaged), "zero" (Pointcept) or "one" (Image2Point's released code, facts 1.8).
    """

    class_weights: ClassWeights = "none"
    absent: AbsentRule = "skip"


@dataclass(frozen=True)
class SceneSegmentation(Experiment):
    """Train a network to name the class of every point of a scene.

    model is as for classifiers, with a network that labels points: network "unet" around an image model,
    "range-view" (pictures as a spinning LiDAR takes them), or "res16unet34c", "pointnet2-ssg-scenes" and
    their like by name. model.in_channels 0 takes as many channels as data.features gives. Metrics of the last
    epoch, over all points of the whole scenes of the split that is judged: train_loss, train_accuracy,
    val_loss, val_miou, val_accuracy, val_class_accuracy, lr.
    """

    method: ClassVar[str] = "scene_segmentation"
    out: ClassVar[str] = "runs/scene_segmentation"
    best: ClassVar[Best] = ("val_miou", "max")
    task: ClassVar[str] = "segment"

    model: ModelConfig = ModelConfig(network="unet", in_channels=0)
    data: SceneDataConfig = SceneDataConfig()
    loss: SceneLossConfig = SceneLossConfig()
    optim: OptimConfig = OptimConfig()
    trainer: TrainerConfig = TrainerConfig()
    seed: int = 0

    def network(self, classes: int, features: Sequence[str]) -> CloudNetwork:
        """The network that `model` names, for the channels of what it sees of a point.

        Raises ValueError for another number in model.in_channels, for a network on points whose features do
        not begin with xyz, and as `build_network` does.
        """
        channels = sum(FEATURES[name] for name in features)
        if self.model.in_channels not in (0, channels):
            raise ValueError(
                f"model.in_channels is {self.model.in_channels}, but data.features "
                f"({', '.join(features)}) gives {channels}: set it to {channels}, or to 0."
            )
        model = replace(self.model, in_channels=channels)
        if model.image_model in POINT_NETWORKS and model.network == "unet":
            model = replace(model, network="auto")  # the default, which only image models have a use for
        net = build_network(model, classes, self.seed, self.data.voxel_size)
        if net.takes == "points" and features[0] != "xyz":
            raise ValueError(
                f"{model.image_model} works on points, whose features must begin with xyz, got data.features "
                f"{', '.join(features)}: put xyz first."
            )
        return net

    def build(self, place: Place) -> Training:
        """Raises what `load_scenes` and `network` raise."""
        splits = load_scenes(self.data, self.seed)
        scenes = SceneData(splits, self.data, self.seed, self.trainer.devices * self.trainer.num_nodes)
        labels = splits.labels
        net = self.network(len(labels), self.data.seen(splits.train.columns))
        counts = _points_per_class(splits) if self.loss.class_weights != "none" else torch.ones(len(labels))
        steps = optimizer_steps(scenes.steps_per_epoch, self.optim.epochs, self.trainer)
        module = SceneLabelling(
            net,
            labels,
            class_weights(counts, self.loss.class_weights),
            self.loss.absent,
            self.model.regime,
            optim=self.optim,
            seed=self.seed,
            total_steps=steps,
        )
        config = self._checkpoint(net, splits)

        def save(path: Path, protocol: dict[str, Any]) -> None:
            save_checkpoint(path, net, {**config, "protocol": protocol})

        facts = {
            "data": splits.describe(),
            "scenes_per_step_and_device": scenes.local_batch,
            "evaluated": "whole scenes in one piece; every point has the answer of its voxel or pixel",
            "miou": f"absent classes: {self.loss.absent}",
        }
        return Training(module, scenes, self.optim.epochs, save, facts)

    def _checkpoint(self, net: CloudNetwork, splits: SceneSplits) -> dict[str, Any]:
        """Metadata: how to build the network, and what has to be done with a scene before it sees it."""
        labels, data = splits.labels, self.data
        return {
            "task": "segment",
            "image_model": self.model.image_model,
            "image_options": self.model.image_options,
            "network": net.kind,
            "inflate": net.arguments,
            "num_classes": len(labels),
            "classes": list(labels.names),
            "numbers": list(labels.written) or list(range(len(labels))),
            "colors": labels.palette().round(4).tolist(),
            "regime": self.model.regime,
            "in_channels": net.in_channels,
            "voxel_size": data.voxel_size,
            "features": "own",
            "columns": list(splits.train.columns),
            "point_features": list(data.seen(splits.train.columns)),
            "frame": data.frame,
            "neutral": splits.neutral,
            "normalisation": "none",
            "n_points": None,
            "points_seed": splits.seed,
            "up_axis": "z",
            "absent": self.loss.absent,
        }

    def judged(self) -> CloudDataset:
        # the report looks at these alone, one after the other: nothing else is read
        splits = load_scenes(replace(self.data, in_memory=False), self.seed)
        return splits.val if splits.test is None else splits.test

    def summary(self, result: Any) -> str:
        # without held-out scenes every epoch is evaluated on the split that results are told of
        metrics, split = result.metrics, "test" if "test_miou" in result.metrics else "val"
        miou, points = 100 * metrics[f"{split}_miou"], 100 * metrics[f"{split}_accuracy"]
        said = f"mIoU {miou:.1f} %, {points:.1f} % of points"
        line = f"{said} on the whole scenes that were not trained on, after the last epoch"
        if split == "test" and "test_miou" in result.best:
            best = result.best
            line += f"; {100 * best['test_miou']:.1f} % after epoch {best['epoch'] + 1:.0f}, the best one on "
            line += "held-out training scenes"
        return f"{line}; {result.seconds:.0f} s"


def _points_per_class(splits: SceneSplits) -> torch.Tensor:
    """(C,): points of every class in the training scenes."""
    counts = torch.zeros(len(splits.labels), dtype=torch.int64)
    for index in range(len(splits.train)):
        part = splits.train[index].part
        if part is not None:
            known = torch.from_numpy(part[part >= 0])
            counts += torch.bincount(known, minlength=len(counts))
    return counts
