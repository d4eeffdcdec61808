"""`method: global_transfer` of a recipe: PPKT's global baselines, on the same frames and networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from pointlift.data.rgbd.config import FrameDataConfig
from pointlift.data.rgbd.frame_pairs import FrameData, load_frames
from pointlift.methods.base import Best, Experiment, Place, Training, optimizer_steps
from pointlift.methods.global_transfer.module import PictureToCloud
from pointlift.methods.global_transfer.settings import GlobalTransferConfig
from pointlift.methods.optim import OptimConfig
from pointlift.methods.ppkt.recipe import PRETRAINING, pretrained_metadata, refuse_unused, student_of
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.config import ImageWeightsConfig, ModelConfig
from pointlift.models.factory import POINT_NETWORKS
from pointlift.teachers.global_features import GlobalFeatures
from pointlift.teachers.statistics import image_statistics
from pointlift.weights.checkpoints import save_checkpoint
from pointlift.weights.network import load_image_network

__all__ = ["GlobalTeacherConfig", "GlobalTransfer", "global_teacher"]


@dataclass(frozen=True)
class GlobalTeacherConfig(ImageWeightsConfig):
    """The image network that knows, frozen, always in evaluation mode.

    Attributes:
        image_model, image_options, pretrained, weights, weights_scheme, weights_part, weights_rename,
            weights_may_differ: as in PPKT's `teacher`.
        mean, std: of the channels, pixels in 0-1; null takes what the weights were trained with.
    """

    image_model: str = "resnet50"
    mean: list[float] | None = None
    std: list[float] | None = None


def global_teacher(config: GlobalTeacherConfig, image_size: Sequence[int], seed: int = 0) -> GlobalFeatures:
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
    return GlobalFeatures(network, config.mean or mean, config.std or std, image_size)


@dataclass(frozen=True)
class GlobalTransfer(Experiment):
    """Global KD, Gupta et al. or CRD: the encoder of a 3D network learns from whole pictures (PPKT, 4.1).

    The groups are PPKT's but for `transfer`. model.safetensors holds the whole network without a classifier;
    its metadata say in `untrained` which parts are as they were drawn: the decoder's. Metrics of the last
    epoch: train_loss, val_loss, val_retrieval (the share of held-out clouds whose own picture fits best in
    their batch), val_chance.
    """

    method: ClassVar[str] = "global_transfer"
    out: ClassVar[str] = "runs/global_transfer"
    best: ClassVar[Best] = ("val_loss", "min")

    model: ModelConfig = ModelConfig(image_model="res16unet34c", in_channels=0)
    teacher: GlobalTeacherConfig = GlobalTeacherConfig()
    data: FrameDataConfig = FrameDataConfig()
    transfer: GlobalTransferConfig = GlobalTransferConfig()
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
        net = student_of(self.model, self.data, self.transfer.dim, self.seed)
        teacher = global_teacher(self.teacher, self.data.image_size, self.seed)
        steps = optimizer_steps(frames.steps_per_epoch, self.optim.epochs, self.trainer)
        module = PictureToCloud(
            net,
            teacher,
            self.transfer,
            len(splits.train),
            optim=self.optim,
            seed=self.seed,
            total_steps=steps,
        )
        config = {
            **pretrained_metadata(self.model, net, self.data),
            "encoder": module.encoder.module,
            "untrained": module.encoder.untrained_modules,
        }

        def save(path: Path, protocol: dict[str, Any]) -> None:
            save_checkpoint(path, net, {**config, "protocol": protocol})

        facts = {
            "data": splits.describe(),
            "frames_per_step_and_device": frames.local_batch,
            "teacher": {"features": teacher.width, "classes": teacher.classes},
            "learned": f"the encoder up to {module.encoder.module}; not {', '.join(config['untrained'])}",
            "evaluated": "whether a cloud's own picture fits best among those of its batch",
        }
        return Training(module, frames, self.optim.epochs, save, facts)

    def summary(self, result: Any) -> str:
        m = result.metrics
        return (
            f"own picture found for {100 * m['val_retrieval']:.1f} % of held-out clouds (by chance "
            f"{100 * m['val_chance']:.1f} %), loss {m['val_loss']:.3f} after the last epoch; "
            f"{result.seconds:.0f} s"
        )
