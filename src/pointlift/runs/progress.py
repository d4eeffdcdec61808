"""How far a run is: a bar on a terminal and in a notebook, now and then a whole line elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

import lightning
from lightning.pytorch.callbacks import ProgressBar, TQDMProgressBar

from pointlift.methods.base import Training
from pointlift.system.durations import in_words

__all__ = ["Bar", "Lines", "progress_of"]

TENTHS = 10  # lines in a run
EVERY = 30.0  # seconds between two lines where so much takes longer


def progress_of(training: Training, stream: TextIO | None = None) -> ProgressBar:
    """What shows the progress of a training on `stream` (default: stdout, as it is now): a bar where it can
    be drawn again and again, else lines on stderr.
    """
    shown = sys.stdout if stream is None else stream
    notebook = type(shown).__module__.startswith("ipykernel")
    return Bar(training.epochs) if shown.isatty() or notebook else Lines(training.epochs)


class Bar(TQDMProgressBar):
    """Lightning's bar, with epochs that count from 1, as everything else that is printed does.

    Args:
        epochs: of the whole run.
    """

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.epochs = epochs

    def on_train_start(self, *_: Any) -> None:
        """The bar comes with the first epoch: what the method prints before it has a line of its own."""

    def on_train_epoch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        if self._train_progress_bar is None:
            self.train_progress_bar = self.init_train_tqdm()
        self.train_progress_bar.reset(int(self.total_train_batches))
        self.train_progress_bar.set_description(f"Epoch {trainer.current_epoch + 1} of {self.epochs}")

    def on_train_end(self, *_: Any) -> None:
        if self._train_progress_bar is not None:
            self.train_progress_bar.close()

    def get_metrics(self, *given: Any) -> dict[str, Any]:
        """Without the number of Lightning's logger, which is the same in all runs."""
        return {name: value for name, value in super().get_metrics(*given).items() if name != "v_num"}


class Lines(ProgressBar):
    """Whole lines: after the first epoch, after every tenth of the run, and every half a minute where that
    takes longer, whether it trains or evaluates.

    Args:
        epochs: of the whole run.
        stream: where they are written, None for stderr.
    """

    def __init__(self, epochs: int, stream: TextIO | None = None) -> None:
        super().__init__()
        self.epochs, self.stream = epochs, stream
        self._enabled = True
        self._share = 0.0  # of the run when the last line was written
        self._said = time.monotonic()
        self._since: tuple[float, float] | None = None  # when a step ended first, and the share then

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        """Lightning's wish in all processes but the first."""
        self._enabled = False

    def on_train_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        self._share = self._done(trainer, -1)
        self._said = time.monotonic()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *step: Any
    ) -> None:
        _, _, batch_idx = step  # outputs, batch, its number
        share = self._done(trainer, batch_idx)
        if self._since is None:
            self._since = time.monotonic(), share
        if not trainer.is_last_batch:  # else the epoch's own line comes
            what = f"batch {batch_idx + 1:,} of {self.total_train_batches:,}"
            self._perhaps(trainer, pl_module, share, what, late_only=True)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        share = self._done(trainer, int(self.total_train_batches) - 1)
        self._perhaps(trainer, pl_module, 1.0 if trainer.should_stop else share, "")

    def on_validation_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *step: Any
    ) -> None:
        self._evaluated(trainer, pl_module, trainer.num_val_batches, *step)

    def on_test_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *step: Any
    ) -> None:
        self._evaluated(trainer, pl_module, trainer.num_test_batches, *step)

    def _evaluated(
        self,
        trainer: lightning.Trainer,
        module: lightning.LightningModule,
        totals: list[Any],
        outputs: Any,
        batch: Any,
        batch_idx: int,
        loader: int = 0,
    ) -> None:
        what = f"evaluating, batch {batch_idx + 1:,} of {totals[loader]:,}"
        self._perhaps(trainer, module, self._share, what, late_only=True)

    def _done(self, trainer: lightning.Trainer, index: int) -> float:
        """The share of the run that is over after batch `index` of the epoch."""
        total = float(self.epochs * self.total_train_batches)
        if trainer.max_steps > 0:
            total = min(total, float(trainer.max_steps * trainer.accumulate_grad_batches))
        return min(1.0, (trainer.current_epoch * self.total_train_batches + index + 1) / max(1.0, total))

    def _perhaps(
        self,
        trainer: lightning.Trainer,
        module: lightning.LightningModule,
        share: float,
        what: str,
        late_only: bool = False,
    ) -> None:
        """A line where one is due."""
        now = time.monotonic()
        first = not late_only and self._share == 0.0
        enough = not late_only and int(TENTHS * share + 1e-9) > int(TENTHS * self._share + 1e-9)
        if not self._enabled or not (first or enough or now - self._said >= EVERY):
            return
        self._share, self._said = share, now
        metrics = self.get_metrics(trainer, module)
        numbers = [_number(name, value) for name, value in metrics.items() if isinstance(value, float)]
        left = self._left(now, share) if trainer.training and not trainer.should_stop else ""
        said = [f"epoch {min(trainer.current_epoch + 1, self.epochs)} of {self.epochs}", what, *numbers, left]
        stream = sys.stderr if self.stream is None else self.stream
        print(f"pointlift: {', '.join(part for part in said if part)}", file=stream, flush=True)

    def _left(self, now: float, share: float) -> str:
        """What remains at the pace since the first step, whose kernels may have had to be compiled."""
        if self._since is None or share <= self._since[1] or share >= 1.0:
            return ""
        seconds = (now - self._since[0]) / (share - self._since[1]) * (1.0 - share)
        return f"about {in_words(seconds)} left"


def _number(name: str, value: float) -> str:
    """Shares as the summary prints them."""
    if name.endswith(("accuracy", "iou")):
        return f"{name} {100 * value:.1f} %"
    return f"{name} {value:.3g}"
