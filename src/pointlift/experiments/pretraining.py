"""`method: image_pretraining` of a recipe: the embedded image network is made from nothing but seeds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pointlift.methods.image_pretraining import FractalDataConfig, ImageFitResult, ImageModelConfig, ImageOptimConfig, fit_image_pretraining

__all__ = ["ImageTrainerConfig", "fit_image_network"]


@dataclass(frozen=True)
class ImageTrainerConfig:
    """Where and how precisely Lightning computes.

    accelerator: auto, cpu, gpu or mps. devices: how many. strategy: auto or ddp. precision: 32-true or bf16-mixed.
    max_steps: stop after so many steps, -1 for never. progress: a bar per epoch. deterministic: refuse operations whose results vary.
    """

    accelerator: str = "auto"
    devices: int | str = "auto"
    strategy: str = "auto"
    precision: str = "32-true"
    max_steps: int = -1
    progress: bool = True
    deterministic: bool = False

    def options(self) -> dict[str, Any]:
        """The arguments of `lightning.Trainer`."""
        return {
            "accelerator": self.accelerator,
            "devices": self.devices,
            "strategy": self.strategy,
            "precision": self.precision,
            "max_steps": self.max_steps,
            "enable_progress_bar": self.progress,
            "enable_model_summary": False,
            "deterministic": self.deterministic,
        }


def fit_image_network(
    model: ImageModelConfig,
    data: FractalDataConfig,
    optim: ImageOptimConfig,
    trainer: ImageTrainerConfig,
    seed: int = 0,
    out: str = "runs/fractal",
    resume: bool = False,
) -> ImageFitResult:
    """Pre-train on fractals; weights and result.json go to `out`. resume: go on from `out`/last.ckpt.

    Raises FileNotFoundError when there is nothing to resume, ValueError for settings that do not fit together.
    """
    last = Path(out) / "last.ckpt"
    if resume and not last.is_file():
        raise FileNotFoundError(f"{last}: there is no checkpoint to resume from; run without --resume, or name the run's folder with --out")
    result = fit_image_pretraining(model, data, optim, seed, out, trainer.options(), last if resume else None)
    print(f"held-out accuracy {100 * result.val_accuracy:.1f} % after {result.epochs} epochs and {result.seconds:.0f} s; weights in {out}")
    return result
