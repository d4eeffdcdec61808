"""`method: pseudo_labels` of a recipe: a 3D network learns an image network's classes on RGB-D frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from pointlift.data.rgbd.config import FrameDataConfig
from pointlift.data.rgbd.frame_pairs import FrameData, load_frames
from pointlift.methods.base import Best, Experiment, Place, Training, optimizer_steps
from pointlift.methods.optim import OptimConfig
from pointlift.methods.ppkt.recipe import PRETRAINING, pretrained_metadata, refuse_unused, student_of
from pointlift.methods.pseudo_labels.module import PixelLabelling, PseudoLabelConfig
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.config import ImageWeightsConfig, ModelConfig
from pointlift.models.factory import POINT_NETWORKS
from pointlift.teachers.dense_classes import DenseClasses, Reading
from pointlift.teachers.statistics import image_statistics
from pointlift.weights.checkpoints import save_checkpoint
from pointlift.weights.network import load_image_network

__all__ = ["ClassTeacherConfig", "PseudoLabels", "class_teacher"]


@dataclass(frozen=True)
class ClassTeacherConfig(ImageWeightsConfig):
    """The image network that names classes, frozen, always in evaluation mode.

    Attributes:
        image_model, image_options, pretrained, weights, weights_scheme, weights_part, weights_rename,
            weights_may_differ: as in PPKT's `teacher`; a segmentation network of your own is
            "path/to/net.py:function".
        reading: "output" (a segmentation network's own maps) or "every-place" (a timm classifier, its head
            applied to every place of its last map).
        mean, std: of the channels, pixels in 0-1; null takes what the weights were trained with.
    """

    image_model: str = "resnet50"
    reading: Reading = "every-place"
    mean: list[float] | None = None
    std: list[float] | None = None


def class_teacher(config: ClassTeacherConfig, image_size: Sequence[int], seed: int = 0) -> DenseClasses:
    """The frozen network of a recipe; one without weights is drawn from `seed`.

    Raises ValueError and FileNotFoundError as `load_image_network`.
    """
    if config.image_model in POINT_NETWORKS:
        raise ValueError(
            f"teacher: {config.image_model} is a network of clouds, an image network is expected."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = load_image_network(config, config.pretrained)
    mean, std = image_statistics(network, config.weights)
    return DenseClasses(network, config.mean or mean, config.std or std, image_size, config.reading)


@dataclass(frozen=True)
class PseudoLabels(Experiment):
    """A 3D network learns the classes that an image network gives the pixels of RGB-D frames; no 3D label.

    The paper's image network is DPT-hybrid trained on ADE20K; any segmentation network will do. The groups
    are PPKT's but for `transfer`. model.safetensors holds the network without a classifier. Metrics of the
    last epoch: train_loss, val_loss, val_agreement (the share of held-out points that both networks give one
    class), val_commonest, val_labelled.
    """

    method: ClassVar[str] = "pseudo_labels"
    out: ClassVar[str] = "runs/pseudo_labels"
    best: ClassVar[Best] = ("val_loss", "min")

    model: ModelConfig = ModelConfig(image_model="res16unet34c", in_channels=0)
    teacher: ClassTeacherConfig = ClassTeacherConfig()
    data: FrameDataConfig = FrameDataConfig()
    transfer: PseudoLabelConfig = PseudoLabelConfig()
    optim: OptimConfig = PRETRAINING
    trainer: TrainerConfig = TrainerConfig()
    seed: int = 0

    def check(self, place: Place) -> None:
        """Raises ValueError for settings of the frames that only PPKT has a use for."""
        refuse_unused(self.data, self.method)

    def build(self, place: Place) -> Training:
        """Raises DataError for what is wrong with the frames, ValueError for networks that do not fit."""
        splits = load_frames(self.data)
        frames = FrameData(splits, self.data, self.seed, self.trainer.devices * self.trainer.num_nodes)
        teacher = class_teacher(self.teacher, self.data.image_size, self.seed)
        net = student_of(self.model, self.data, teacher.classes, self.seed)
        steps = optimizer_steps(frames.steps_per_epoch, self.optim.epochs, self.trainer)
        module = PixelLabelling(
            net, teacher, self.transfer, optim=self.optim, seed=self.seed, total_steps=steps
        )
        config = pretrained_metadata(self.model, net, self.data)

        def save(path: Path, protocol: dict[str, Any]) -> None:
            save_checkpoint(path, net, {**config, "protocol": protocol})

        facts = {
            "data": splits.describe(),
            "frames_per_step_and_device": frames.local_batch,
            "teacher": {"classes": teacher.classes, "stride": [round(s, 3) for s in teacher.stride]},
            "evaluated": "agreement of both networks on drawn points of held-out frames",
        }
        return Training(module, frames, self.optim.epochs, save, facts)

    def summary(self, result: Any) -> str:
        m = result.metrics
        return (
            f"the image network's class for {100 * m['val_agreement']:.1f} % of held-out points (the "
            f"commonest alone: {100 * m['val_commonest']:.1f} %), loss {m['val_loss']:.3f} after the last "
            f"epoch; {result.seconds:.0f} s"
        )
