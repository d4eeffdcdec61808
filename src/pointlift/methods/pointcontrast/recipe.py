"""`method: pointcontrast` of a recipe: a 3D network learns from pairs of views, without labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pointlift.data.rgbd.view_config import ViewPairConfig
from pointlift.data.rgbd.view_pairs import ViewData
from pointlift.methods.base import Best, Experiment, Place, Training, optimizer_steps
from pointlift.methods.optim import OptimConfig
from pointlift.methods.pointcontrast.module import PointToPoint
from pointlift.methods.pointcontrast.settings import ContrastConfig
from pointlift.methods.ppkt.recipe import pretrained_metadata, student_of
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.config import ModelConfig
from pointlift.weights.checkpoints import save_checkpoint

__all__ = ["PointContrast"]


@dataclass(frozen=True)
class PointContrast(Experiment):
    """Pull points together that two views of a scene share (PointContrast; facts 2.4).

    model is as for PPKT. model.safetensors holds the network without a classifier: other recipes start from
    it with model.cloud_weights. Metrics of the last epoch: train_loss, val_loss, val_retrieval (the share of
    held-out anchors whose match is the nearest of val_pairs), val_chance, val_pairs.
    """

    method: ClassVar[str] = "pointcontrast"
    out: ClassVar[str] = "runs/pointcontrast"
    best: ClassVar[Best] = ("val_loss", "min")

    model: ModelConfig = ModelConfig(image_model="res16unet34c", in_channels=0)
    data: ViewPairConfig = ViewPairConfig()
    contrast: ContrastConfig = ContrastConfig()
    optim: OptimConfig = OptimConfig(
        lr=0.1,
        momentum=0.8,
        epochs=15,
        schedule="exponential",
        decay_factor=0.99,
        decay_steps=250,
    )
    trainer: TrainerConfig = TrainerConfig()
    seed: int = 0

    def build(self, place: Place) -> Training:
        """Raises DataError for what is wrong with the frames, ValueError for a network that does not fit."""
        views = ViewData(self.data, self.seed, self.trainer.devices * self.trainer.num_nodes)
        net = student_of(self.model, self.data, self.contrast.dim, self.seed)
        steps = optimizer_steps(views.steps_per_epoch, self.optim.epochs, self.trainer)
        module = PointToPoint(net, self.contrast, optim=self.optim, seed=self.seed, total_steps=steps)
        config = pretrained_metadata(self.model, net, self.data)

        def save(path: Path, protocol: dict[str, Any]) -> None:
            save_checkpoint(path, net, {**config, "protocol": protocol})

        facts = {
            "data": views.describe(),
            "pairs_per_step_and_device": views.local_batch,
            "evaluated": f"retrieval of an anchor's match among {self.contrast.pairs} of a batch of pairs",
        }
        return Training(module, views, self.optim.epochs, save, facts)

    def summary(self, result: Any) -> str:
        m = result.metrics
        return (
            f"match found for {100 * m['val_retrieval']:.1f} % of held-out points among "
            f"{m['val_pairs']:.0f} (by chance {100 * m['val_chance']:.2f} %), loss {m['val_loss']:.3f} after "
            f"the last epoch; {result.seconds:.0f} s"
        )
