"""`method: ppkt` of a recipe: a 3D network learns from an image network on RGB-D frames without labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from pointlift.data.rgbd.config import FrameDataConfig, SeenPoints
from pointlift.data.rgbd.frame_pairs import FrameData, FramePairs, FramePictures, FrameSplits, load_frames
from pointlift.data.scene_features import FEATURES
from pointlift.methods.base import Best, Experiment, Place, Training, optimizer_steps
from pointlift.methods.optim import OptimConfig
from pointlift.methods.ppkt.module import PixelToPoint
from pointlift.methods.ppkt.pictures import write_report
from pointlift.methods.ppkt.settings import TransferConfig
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.config import ImageWeightsConfig, ModelConfig
from pointlift.models.factory import POINT_NETWORKS
from pointlift.nn import CloudNetwork
from pointlift.teachers.dense_features import DenseFeatures
from pointlift.teachers.features import teacher_features
from pointlift.teachers.statistics import image_statistics
from pointlift.weights.checkpoints import save_checkpoint
from pointlift.weights.network import build_network, load_image_network

__all__ = [
    "PPKT",
    "PRETRAINING",
    "DenseTeacherConfig",
    "dense_teacher",
    "pretrained_metadata",
    "refuse_unused",
    "student_of",
]

Maps = npt.NDArray[np.float32]
PRETRAINING = OptimConfig(
    lr=0.5, momentum=0.8, epochs=15, schedule="exponential", decay_factor=0.99, decay_steps=250
)
"""PPKT's section 4.1, and PointContrast's where that is silent (facts 2.1)."""


@dataclass(frozen=True)
class DenseTeacherConfig(ImageWeightsConfig):
    """The image network that knows: f2D, frozen, always in evaluation mode.

    Attributes:
        image_model: a timm name ("resnet50" in the paper), "torchvision:NAME", "fractal_resnet" (embedded
            weights), "efficientnet_lite0_imagenet", or "path/to/net.py:function".
        image_options: keyword arguments of what makes the image model.
        pretrained: start from the weights that belong to the name.
        weights, weights_scheme, weights_part, weights_rename, weights_may_differ: a file of image weights,
            supervised or self-supervised (MoCo, DINO, ...), as in `model` of other recipes.
        layer: dotted name of the module whose output is the map; null takes the last one (layer4 of a
            ResNet, as in the paper).
        mean, std: of the channels, pixels in 0-1; null takes what the weights were trained with.
    """

    image_model: str = "resnet50"
    layer: str | None = None
    mean: list[float] | None = None
    std: list[float] | None = None


def dense_teacher(config: DenseTeacherConfig, image_size: Sequence[int], seed: int = 0) -> DenseFeatures:
    """f2D of a recipe; weights that no file has are drawn from `seed`.

    Raises ValueError for one without a map, and as `load_image_network` does.
    """
    if config.image_model in POINT_NETWORKS:
        raise ValueError(
            f"teacher: {config.image_model} is a network of clouds, an image network is expected."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = load_image_network(config, config.pretrained)
    mean, std = image_statistics(network, config.weights)
    return DenseFeatures(network, config.mean or mean, config.std or std, image_size, config.layer)


@dataclass(frozen=True)
class PPKT(Experiment):
    """Pull every point's feature to that of the pixel which shows it (PPKT; section 3.2, Algorithm 1).

    model is any network that labels points: "res16unet34c" (SR-UNet34, the paper's) and its like, network
    "unet" around an image model, or "pointnet2-ssg-scenes"; model.in_channels 0 takes what data.features
    gives. model.safetensors holds the network without a classifier: other recipes start from it with
    model.cloud_weights. Metrics of the last epoch: train_loss, val_loss, val_retrieval (the share of held-out
    points whose own pixel is the nearest of val_pairs), val_chance, lr.
    """

    method: ClassVar[str] = "ppkt"
    out: ClassVar[str] = "runs/ppkt"
    best: ClassVar[Best] = ("val_loss", "min")

    model: ModelConfig = ModelConfig(image_model="res16unet34c", in_channels=0)
    teacher: DenseTeacherConfig = DenseTeacherConfig()
    data: FrameDataConfig = FrameDataConfig()
    transfer: TransferConfig = TransferConfig()
    optim: OptimConfig = PRETRAINING
    trainer: TrainerConfig = TrainerConfig()
    seed: int = 0

    def check(self, place: Place) -> None:
        """Raises ValueError for superpixels that are asked for in one place and not in the other."""
        wanted, made = self.transfer.loss == "superpixel", self.data.superpixels > 0
        if wanted != made:
            raise ValueError(
                f"transfer.loss is {self.transfer.loss} and data.superpixels is {self.data.superpixels}: "
                'contrast over superpixels needs both, loss "superpixel" and about 150 of them; other losses '
                "leave data.superpixels 0."
            )

    def build(self, place: Place) -> Training:
        """Raises DataError for what is wrong with the frames, ValueError for networks that do not fit."""
        splits = load_frames(self.data)
        net = student_of(self.model, self.data, self.transfer.dim, self.seed)
        teacher = dense_teacher(self.teacher, self.data.image_size, self.seed)
        maps = kept_maps(teacher, splits, self.data, place.folder / "features")
        world = self.trainer.devices * self.trainer.num_nodes
        frames = FrameData(splits, self.data, self.seed, world, maps)
        steps = optimizer_steps(frames.steps_per_epoch, self.optim.epochs, self.trainer)
        module = PixelToPoint(
            net, teacher, self.transfer, optim=self.optim, seed=self.seed, total_steps=steps
        )
        config = pretrained_metadata(self.model, net, self.data)

        def save(path: Path, protocol: dict[str, Any]) -> None:
            save_checkpoint(path, net, {**config, "protocol": protocol})

        facts = self._facts(splits, teacher, frames.local_batch)

        def draw(seconds: float) -> None:
            text = (place.folder / "recipe.yaml").read_text(encoding="utf-8")
            held_out = FramePairs(splits.val, self.data, self.seed, False)
            print(f"{write_report(place.folder, module, held_out, text, facts)} shows the frames")

        return Training(module, frames, self.optim.epochs, save, facts, after=draw)

    def _facts(self, splits: FrameSplits, teacher: DenseFeatures, batch: int) -> dict[str, Any]:
        rows, columns = teacher.stride
        return {
            "data": splits.describe(),
            "frames_per_step_and_device": batch,
            "teacher": {"channels": teacher.channels, "stride": [round(rows, 3), round(columns, 3)]},
            "evaluated": f"retrieval of a point's own pixel among {self.transfer.pairs} of a batch of frames",
        }

    def summary(self, result: Any) -> str:
        m = result.metrics
        return (
            f"own pixel found for {100 * m['val_retrieval']:.1f} % of held-out points among "
            f"{m['val_pairs']:.0f} (by chance {100 * m['val_chance']:.2f} %), loss {m['val_loss']:.3f} after "
            f"the last epoch; {result.seconds:.0f} s"
        )


def kept_maps(
    teacher: DenseFeatures, splits: FrameSplits, data: FrameDataConfig, folder: Path
) -> tuple[Maps | None, Maps | None]:
    """Maps of the training and the held-out frames, from files in `folder` that are made where they are not
    there; None for both where `data.keep_features` is not set.
    """
    if not data.keep_features:
        return None, None
    found = [
        teacher_features(teacher, FramePictures(frames, data), folder, data.batch_size)
        for frames in (splits.train, splits.val)
    ]
    shape = (-1, teacher.channels, *teacher.map_size)
    return found[0].reshape(shape), found[1].reshape(shape)


def refuse_unused(data: FrameDataConfig, method: str) -> None:
    """Raises ValueError for what only PPKT does with frames: superpixels and kept features."""
    if data.superpixels or data.keep_features:
        raise ValueError(
            f"data.superpixels is {data.superpixels} and data.keep_features is {data.keep_features}, which "
            f"{method} has no use for: leave them 0 and false."
        )


def student_of(model: ModelConfig, data: SeenPoints, dim: int, seed: int) -> CloudNetwork:
    """f3D of a recipe, for what `data.features` shows of a point.

    Raises ValueError for another number in model.in_channels, and for a network that labels clouds.
    """
    channels = sum(FEATURES[name] for name in data.features)
    if model.in_channels not in (0, channels):
        raise ValueError(
            f"model.in_channels is {model.in_channels}, but data.features ({', '.join(data.features)}) gives "
            f"{channels}: set it to {channels}, or to 0."
        )
    if model.image_model not in POINT_NETWORKS and model.network == "auto":
        model = replace(model, network="unet")
    net = build_network(replace(model, in_channels=channels), dim, seed, data.voxel_size)
    if net.takes == "points" and data.features[0] != "xyz":
        raise ValueError(
            f"{model.image_model} works on points, whose features must begin with xyz, got data.features "
            f"{', '.join(data.features)}: put xyz first."
        )
    return net


def pretrained_metadata(model: ModelConfig, net: CloudNetwork, data: SeenPoints) -> dict[str, Any]:
    """How to build the network again, and what it saw of a point."""
    return {
        "task": "pretrained",
        "image_model": model.image_model,
        "image_options": model.image_options,
        "network": net.kind,
        "inflate": net.arguments,
        "num_classes": 0,
        "classes": [],
        "regime": model.regime,
        "in_channels": net.in_channels,
        "voxel_size": data.voxel_size,
        "features": "own",
        "point_features": list(data.features),
        "frame": "floor",
        "up_axis": "z",
    }
