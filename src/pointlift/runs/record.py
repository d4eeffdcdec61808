"""What is written while a run trains: metrics.csv, best.safetensors, last.ckpt; whole or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from pointlift.methods.base import Best
from pointlift.runs.folder import RunFolder

__all__ = ["AtomicCheckpointIO", "RunRecord"]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoints, streamed to a temporary file that takes the name once it is whole and on
    disk.
    """

    def __init__(self, folder: RunFolder) -> None:
        super().__init__()
        self.folder = folder

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Raises RunWriteError where it cannot be written; the file that was there is then unchanged."""
        with self.folder.writing(Path(path).name) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)


class RunRecord(Checkpoint):
    """After every epoch: a row in metrics.csv, best.safetensors where it is the best one,
    and last.ckpt with all of that inside.

    Lightning's ModelCheckpoint is not used because it forgets the best score of a run whose folder was moved,
    and counts file names up instead of replacing them. rows: one dictionary per finished epoch. best:
    (epoch, value) or None.

    Args:
        folder: of the run.
        export: writes the network to a path, given the epoch.
        columns: the numbers of a row; those that start with val_ are there where the epoch was evaluated.
        criterion: the column that says which epoch is best, and whether that is its "max" or "min";
            None chooses none.
        every_n_steps: write last.ckpt also within epochs; None does not.
    """

    def __init__(
        self,
        folder: RunFolder,
        export: Callable[[Path, int], None],
        columns: Sequence[str],
        criterion: Best | None,
        every_n_steps: int | None,
    ) -> None:
        self.folder, self.export, self.columns, self.criterion = folder, export, tuple(columns), criterion
        self.every_n_steps = every_n_steps
        self.rows: list[dict[str, float]] = []
        self.best: tuple[int, float] | None = None
        self.finished = False
        self._started = time.perf_counter()
        self._saved_step = 0

    @property
    def validated(self) -> bool:
        """Whether the last epoch was evaluated: not so when `max_steps` ended the run within it,
        or `evaluate_every` skipped it.
        """
        return bool(self.rows) and any(name.startswith("val_") for name in self.rows[-1])

    @property
    def state_key(self) -> str:
        """The name in last.ckpt, which does not change with the class'."""
        return "RunRecord"

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "best": self.best, "finished": self.finished}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows, self.best, self.finished = state_dict["rows"], state_dict["best"], state_dict["finished"]

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._saved_step = trainer.global_step
        if self.finished:  # stopped early before it was interrupted: nothing is left to do
            trainer.should_stop = True

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._started = time.perf_counter()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        step = trainer.global_step  # a batch that only accumulates does not raise it
        if (
            self.every_n_steps
            and step % self.every_n_steps == 0
            and step != self._saved_step
            and not trainer.is_last_batch
        ):
            self._saved_step = step
            trainer.save_checkpoint(self.folder.last, weights_only=False)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Record the epoch's numbers, export the network where it is the best so far, and write last.ckpt."""
        evaluated = (
            trainer.is_last_batch
            and (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
        )
        # Lightning keeps old values
        fresh = [n for n in self.columns if evaluated or not n.startswith("val_")]
        values = {n: float(trainer.callback_metrics[n]) for n in fresh if n in trainer.callback_metrics}
        row = {"epoch": trainer.current_epoch, "step": trainer.global_step, **values}
        row["seconds"] = round(time.perf_counter() - self._started, 3)
        self.rows.append(row)
        if self._improved(row) and trainer.is_global_zero:
            self.export(self.folder.best, trainer.current_epoch)
        self.finished = trainer.should_stop
        if trainer.is_global_zero:
            self.folder.write_rows(self.rows)
        trainer.save_checkpoint(self.folder.last, weights_only=False)

    def _improved(self, row: dict[str, float]) -> bool:
        """Whether an epoch is the best so far, which is noted."""
        if self.criterion is None or self.criterion[0] not in row:
            return False
        column, mode = self.criterion
        sign = 1.0 if mode == "max" else -1.0
        if self.best is not None and not sign * row[column] > sign * self.best[1]:
            return False
        self.best = (int(row["epoch"]), row[column])
        return True
