"""`method: part_segmentation` of a recipe: PointNet++ names the parts of objects,
its encoder random or trained to classify.

PointCMT, supplement B.5 and table 11: the encoder of a classifier trained on ModelNet40, once with PointCMT
and once without, in PointNet++'s segmentation network on ShapeNetPart. The paper says nothing of how that is
trained: the recipes take the original code's settings (Qi et al. 2017).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from pointlift.data.config import DataConfig
from pointlift.data.training_clouds import load_splits
from pointlift.methods.base import Best, Experiment, Place, Training, optimizer_steps
from pointlift.methods.cloud_classifiers import cloud_config, cloud_facts, cloud_loaders
from pointlift.methods.optim import OptimConfig
from pointlift.methods.segmentation.parts import PartLabelling
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.points.pointnet2_parts import PointNet2Parts, pointnet2_msg_parts, pointnet2_ssg_parts
from pointlift.system.distributed import process_rank
from pointlift.weights.checkpoints import save_checkpoint
from pointlift.weights.encoder import load_encoder

__all__ = ["PartModelConfig", "PartSegmentation", "build_part_network"]

NETWORKS: dict[str, Callable[..., PointNet2Parts]] = {"ssg": pointnet2_ssg_parts, "msg": pointnet2_msg_parts}
SAID = (("instance mIoU", "instance_miou"), ("class mIoU", "class_miou"))


@dataclass(frozen=True)
class PartModelConfig:
    """The network of parts and what its encoder starts from.

    Attributes:
        kind: PointNet++ with "ssg" (single-scale grouping) or "msg" (multi-scale grouping).
        cloud_weights: a checkpoint of a PointNet++ of the same kind, whose encoder is taken: a classifier's,
            a PointCMT student's; null starts from random weights.
        options: keyword arguments of the network, e.g. {npoint: [128, 32]}; see
            `pointlift.models.points.pointnet2_parts`.
        in_channels: channels per point; must be what `data.features` delivers:
            3, or 6 with normals (features xyz+own).
        use_category: whether the network is told the category of the object,
            as one-hot channels of every point.
        restrict_to_category: whether predictions are taken among the parts of the object's category only;
            the field's convention.
    """

    kind: Literal["ssg", "msg"] = "ssg"
    cloud_weights: str | None = None
    options: dict[str, Any] | None = None
    in_channels: int = 3
    use_category: bool = True
    restrict_to_category: bool = True


def build_part_network(config: PartModelConfig, categories: int, parts: int, seed: int) -> PointNet2Parts:
    """The network of a recipe with random weights, drawn from `seed`.
    Raises ValueError for options that do not fit.
    """
    options = dict(config.options or {})
    own = {"in_channels": "model.in_channels", "num_classes": "the data", "categories": "model.use_category"}
    for name, where in own.items():
        if name in options:
            raise ValueError(f"model.options has {name}, which follows from {where}: leave it out.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return NETWORKS[config.kind](
                config.in_channels, parts, categories if config.use_category else 0, **options
            )
        except TypeError as error:
            raise ValueError(f"model.options cannot be used for PointNet++ ({error}).") from None


@dataclass(frozen=True)
class PartSegmentation(Experiment):
    """Train a network of parts.

    data.source is "shapenetpart:FOLDER" (trained on train and val together, tested on test, as the papers do)
    or "procedural:shapes". data.normalise, n_points and so on are as for classifiers: random points in
    training, the first ones in evaluation, null for all. Metrics of the last epoch: train_loss,
    train_accuracy (of points), val_loss, val_instance_miou, val_class_miou, val_point_accuracy, lr.
    """

    method: ClassVar[str] = "part_segmentation"
    out: ClassVar[str] = "runs/part_segmentation"
    best: ClassVar[Best] = ("val_instance_miou", "max")
    task: ClassVar[str] = "parts"

    model: PartModelConfig = PartModelConfig()
    data: DataConfig = DataConfig(n_points=2048)
    optim: OptimConfig = OptimConfig()
    trainer: TrainerConfig = TrainerConfig()
    seed: int = 0

    def build(self, place: Place) -> Training:
        """Raises what `load_splits`, `build_part_network` and `load_encoder` raise."""
        model, splits = self.model, load_splits(self.data, self.seed, kind="parts")
        clouds = cloud_loaders(splits, self.data, model.in_channels, self.seed, self.trainer)
        labels = splits.part_labels
        net = build_part_network(model, len(labels.categories), len(labels), self.seed)
        loaded: dict[str, Any] = {"tensors": 0}
        if model.cloud_weights is not None:
            report = load_encoder(model.cloud_weights, net)
            loaded = {"tensors": len(report.loaded), "report": report.render()}
            if process_rank() == 0:
                print(report.render())
        steps = optimizer_steps(clouds.steps_per_epoch, self.optim.epochs, self.trainer)
        module = PartLabelling(
            net, labels, model.restrict_to_category, optim=self.optim, seed=self.seed, total_steps=steps
        )
        config: dict[str, Any] = {
            "task": "parts",
            "image_model": f"pointnet2-{model.kind}-parts",
            "inflate": net.arguments,
            "num_classes": len(labels),
            "classes": list(labels.names),
            "categories": list(labels.categories),
            "parts": [list(parts) for parts in labels.parts],
            "restrict_to_category": model.restrict_to_category,
            "regime": "all",
            **cloud_config(clouds),
        }

        def save(path: Path, protocol: dict[str, Any]) -> None:
            save_checkpoint(path, net, {**config, "protocol": protocol})

        among = (
            "the parts of the cloud's category, which is known" if model.restrict_to_category else "all parts"
        )
        facts = {
            **cloud_facts(clouds),
            "prediction": f"highest score among {among}",
            "iou": (
                "mean over the parts of a shape's category, "
                "1 for a part that is in neither truth nor prediction"
            ),
            "encoder": loaded,
        }
        return Training(module, clouds, self.optim.epochs, save, facts, {"loaded": int(loaded["tensors"])})

    def summary(self, result: Any) -> str:
        # without a held-out part every epoch is evaluated on the test split
        split = "test" if f"test_{SAID[0][1]}" in result.metrics else "val"
        shares = [f"{said} {100 * result.metrics[f'{split}_{key}']:.2f} %" for said, key in SAID]
        line = f"{', '.join(shares)} on the test split after the last epoch"
        if split == "test" and f"test_{SAID[0][1]}" in result.best:
            chosen = [f"{100 * result.best[f'test_{key}']:.2f} %" for _, key in SAID]
            line += (
                f", {', '.join(chosen)} after epoch {result.best['epoch'] + 1:.0f}, the best one on the "
                "held-out part of the training split"
            )
        return f"{line}; {result.seconds:.0f} s"
