"""How Lightning runs a method. A recipe's `trainer` is this dataclass, field by field."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

__all__ = ["TrainerConfig"]

# what the runner does itself; everything else is a keyword argument of lightning.Trainer by the same name
RUNNERS = (
    "early_stop_patience",
    "early_stop_metric",
    "evaluate_every",
    "checkpoint_every_n_steps",
    "wandb",
    "ema",
    "continue_from",
)


@dataclass(frozen=True)
class TrainerConfig:
    """How Lightning runs it.

    Attributes:
        devices: how many devices of each machine train together.
        accelerator: "auto" (a GPU where there is one), "cpu", "gpu" or another of Lightning's.
        strategy: how several devices work together, "auto" or "ddp", ... as Lightning has it.
        num_nodes: machines.
        precision: of the arithmetic: 32-true, or mixed with 16-bit floats.
        log_every_n_steps: steps between two rows of the step log.
        enable_progress_bar: whether a bar shows how far an epoch is, or, where the output is no terminal, a
            line after every tenth of the run or half a minute.
        accumulate_grad_batches: batches per optimizer step, each of `data.batch_size` clouds.
        early_stop_patience: stop after so many epochs without a better `early_stop_metric` (losses:
            lower is better); null never.
        early_stop_metric: a column of metrics.csv, such as val_accuracy, val_class_accuracy,
            val_loss or train_loss.
        evaluate_every: evaluate after every so many epochs, and after the last.
        max_steps: stop after so many optimizer steps; -1 never. A cosine then ends there.
        gradient_clip_val: largest norm of the gradient; null does not clip.
        ema: evaluate and save a moving average of the weights over the steps in place of the last ones, each
            step keeping so much of it, such as 0.999 (less in the first steps; running statistics of batch
            normalisation are averaged too; of every stage); null does not.
        continue_from: folder of a finished run whose last weights this one starts with, in a folder of its
            own; its schedule is over its own optim.epochs. Stages with the same recipe are taken over.
        deterministic: only deterministic algorithms, bit for bit repeatable.
        checkpoint_every_n_steps: write last.ckpt also within epochs; null after every epoch only.
        wandb: also log to Weights & Biases (extra pointlift[wandb]).
    """

    devices: int = 1
    accelerator: str = "auto"
    strategy: str = "auto"
    num_nodes: int = 1
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    accumulate_grad_batches: int = 1
    early_stop_patience: int | None = None
    early_stop_metric: str = "val_accuracy"
    evaluate_every: int = 1
    max_steps: int = -1
    gradient_clip_val: float | None = None
    deterministic: bool = False
    checkpoint_every_n_steps: int | None = None
    log_every_n_steps: int = 50
    enable_progress_bar: bool = True
    wandb: bool = False
    ema: float | None = None
    continue_from: str | None = None

    def __post_init__(self) -> None:
        for name in (
            "devices",
            "num_nodes",
            "accumulate_grad_batches",
            "log_every_n_steps",
            "evaluate_every",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"trainer: {name} is {getattr(self, name)}, expected at least 1.")
        for name in ("early_stop_patience", "checkpoint_every_n_steps"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"trainer: {name} is {value}, expected at least 1, or null.")
        if self.max_steps < -1 or self.max_steps == 0:
            raise ValueError(
                f"trainer: max_steps is {self.max_steps}, expected at least 1, or -1 for no limit."
            )

        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(
                f"trainer: ema is {self.ema}, expected a number between 0 and 1 such as 0.999, or null."
            )

    def of_lightning(self) -> dict[str, Any]:
        """The keyword arguments of lightning.Trainer."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in RUNNERS}
