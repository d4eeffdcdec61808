"""Lightning, set up so that a run can be killed at any moment and goes on exactly where its last checkpoint was written."""

from __future__ import annotations

import logging
import pickle
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from pointlift.data.training_clouds import CloudData
from pointlift.methods.optim import OptimConfig
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.runs.folder import RunFolder, RunFolderError

__all__ = ["AtomicCheckpointIO", "RunInterrupted", "RunRecord", "make_trainer", "run", "settings_restored"]


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM during a run, after it was shut down; the message says how to go on. exit_code: 130 or 143."""

    def __init__(self, message: str, exit_code: int = 130) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoints, streamed to a temporary file that takes the name once it is whole and on disk."""

    def __init__(self, folder: RunFolder) -> None:
        super().__init__()
        self.folder = folder

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Raises RunWriteError where it cannot be written; the file that was there is then unchanged."""
        with self.folder.writing(Path(path).name) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)


class RunRecord(Checkpoint):
    """After every epoch: a row in metrics.csv, best.safetensors where `metric` improved, and last.ckpt with all of that inside.

    Lightning's ModelCheckpoint is not used because it forgets the best score of a run whose folder was moved, and counts file
    names up instead of replacing them. rows: one dictionary per finished epoch. best: (epoch, value) or None.
    NAMES: the numbers of a row; those that start with val_ are there where the epoch was evaluated. EVALUATED: the one that says so.
    """

    NAMES: tuple[str, ...] = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_class_accuracy", "lr")
    EVALUATED = "val_accuracy"

    def __init__(self, folder: RunFolder, export: Callable[[Path, int], None], metric: str, every_n_steps: int | None) -> None:
        self.folder, self.export, self.metric, self.every_n_steps = folder, export, metric, every_n_steps
        self.rows: list[dict[str, float]] = []
        self.best: tuple[int, float] | None = None
        self.finished = False
        self._started = time.perf_counter()
        self._saved_step = 0

    @property
    def validated(self) -> bool:
        """Whether the last epoch was evaluated: not so when `max_steps` ended the run within it, or `evaluate_every` skipped it."""
        return bool(self.rows) and self.EVALUATED in self.rows[-1]

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

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step  # a batch that only accumulates does not raise it
        if self.every_n_steps and step % self.every_n_steps == 0 and step != self._saved_step and not trainer.is_last_batch:
            self._saved_step = step
            trainer.save_checkpoint(self.folder.last, weights_only=False)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Record the epoch's numbers, export the network where it is the best so far, and write last.ckpt."""
        evaluated = trainer.is_last_batch and (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
        fresh = [n for n in self.NAMES if evaluated or not n.startswith("val_")]  # Lightning keeps old values
        values = {n: float(trainer.callback_metrics[n]) for n in fresh if n in trainer.callback_metrics}
        row = {"epoch": trainer.current_epoch, "step": trainer.global_step, **values}
        row["seconds"] = round(time.perf_counter() - self._started, 3)
        self.rows.append(row)
        if self.metric in row and (self.best is None or row[self.metric] > self.best[1]):
            self.best = (trainer.current_epoch, row[self.metric])
            if trainer.is_global_zero:
                self.export(self.folder.best, trainer.current_epoch)
        self.finished = trainer.should_stop
        if trainer.is_global_zero:
            self.folder.write_rows(self.rows)
        trainer.save_checkpoint(self.folder.last, weights_only=False)


def make_trainer(config: TrainerConfig, optim: OptimConfig, record: RunRecord, steps_per_epoch: int) -> lightning.Trainer:
    """A Trainer that logs to TensorBoard (and W&B where asked), records the run and leaves sampling to pointlift's loaders.

    steps_per_epoch: batches, the same on every device, whatever a device's own loader could still deliver.
    Raises ValueError for a W&B extra that is not installed, and Lightning's own errors for devices that do not exist.
    """
    folder = record.folder
    callbacks: list[Callback] = [record]
    if config.early_stop_patience is not None:
        mode = "min" if config.early_stop_metric.endswith("loss") else "max"
        stop = EarlyStopping(config.early_stop_metric, patience=config.early_stop_patience, mode=mode, check_on_train_epoch_end=True)
        if config.evaluate_every > 1 and config.early_stop_metric != "train_loss":
            raise ValueError(
                f"trainer: early_stop_metric {config.early_stop_metric} is needed after every epoch, but evaluate_every is "
                f"{config.evaluate_every}."
            )
        callbacks.insert(0, stop)
    return lightning.Trainer(
        max_epochs=optim.epochs,
        max_steps=config.max_steps,
        limit_train_batches=steps_per_epoch,
        check_val_every_n_epoch=config.evaluate_every,
        devices=config.devices,
        accelerator=config.accelerator,
        strategy=config.strategy,
        num_nodes=config.num_nodes,
        precision=config.precision,
        accumulate_grad_batches=config.accumulate_grad_batches,
        gradient_clip_val=config.gradient_clip_val,
        deterministic=config.deterministic,
        log_every_n_steps=config.log_every_n_steps,
        enable_progress_bar=config.enable_progress_bar,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=folder.path,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO(folder)],
        logger=_loggers(folder, config),
    )


def _loggers(folder: RunFolder, config: TrainerConfig) -> list[Logger]:
    loggers: list[Logger] = [TensorBoardLogger(folder.path, name="", version="tensorboard", purge_step=_step(folder.last))]
    if config.wandb:
        try:
            from lightning.pytorch.loggers import WandbLogger

            loggers.append(WandbLogger(name=folder.path.name, save_dir=folder.path, project="pointlift"))
        except ModuleNotFoundError:
            raise ValueError("trainer.wandb is true, but wandb is not installed: pip install 'pointlift[wandb]'.") from None
    return loggers


def _step(checkpoint: Path) -> int | None:
    """The step of a checkpoint, behind which a killed run may have logged; None where there is no checkpoint."""
    if not checkpoint.is_file():
        return None
    try:
        return int(torch.load(checkpoint, map_location="cpu", weights_only=True)["global_step"])
    except (RuntimeError, OSError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise RunFolderError(
            f"{checkpoint} is damaged or no checkpoint of a run ({type(error).__name__}): restore it, or start again in another folder."
        ) from None


def run(
    trainer: lightning.Trainer,
    module: lightning.LightningModule,
    data: CloudData,
    record: RunRecord,
    resume: bool,
    also: Mapping[str, lightning.LightningModule] | None = None,
) -> dict[str, float]:
    """Train, from last.ckpt with `resume`, and evaluate: on the test split where `data` has one of its own, and on the validation
    split where the run ended within an epoch. The modules of `also` are evaluated on both, untrained; what they log is returned under
    their name (name_val_accuracy) and not logged. Returns what these evaluations logged. Raises RunInterrupted after Ctrl-C or SIGTERM."""
    measured: dict[str, float] = {}
    folder = record.folder
    with _interrupts(trainer, folder), torch.random.fork_rng(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*")  # Lightning's own affair with torch
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*number of training batches .* is smaller than the logging interval.*")
        warnings.filterwarnings("ignore", ".*module.s. in eval mode at the start of training.*")  # the regimes freeze statistics
        warnings.filterwarnings("ignore", ".*It is recommended to use .*sync_dist=True.*")  # metrics are global before they are logged
        warnings.filterwarnings("ignore", ".*Checkpoint directory .* exists and is not empty.*")
        trainer.fit(module, datamodule=data, ckpt_path=folder.last if resume else None, weights_only=True)
        if not record.validated:
            measured.update(trainer.validate(module, datamodule=data, verbose=False)[0])
        if data.splits.test is not None:
            measured.update(trainer.test(module, datamodule=data, verbose=False)[0])
        if also:
            trainer.loggers = []
        for name, other in (also or {}).items():
            logged = dict(trainer.validate(other, datamodule=data, verbose=False)[0])
            if data.splits.test is not None:
                logged.update(trainer.test(other, datamodule=data, verbose=False)[0])
            measured.update({f"{name}_{key}": value for key, value in logged.items()})
    return measured


@contextmanager
def _interrupts(trainer: lightning.Trainer, folder: RunFolder) -> Iterator[None]:
    """Lightning ends the process on Ctrl-C and leaves it deaf to the next one; here it becomes an exception that says how to go on."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as stop:
        if not trainer.interrupted:
            raise
        terminated = isinstance(stop, SIGTERMException)
        if folder.last.is_file():
            how = f"go on with --resume (the checkpoint in {folder.path} is intact)"
        else:
            how = "no checkpoint was written yet, start it again"
        what = "terminated" if terminated else "interrupted"
        raise RunInterrupted(f"The run was {what} in epoch {trainer.current_epoch + 1}: {how}.", 143 if terminated else 130) from None
    finally:
        if main and before is not None:
            signal.signal(signal.SIGINT, before)


@contextmanager
def settings_restored() -> Iterator[None]:
    """Lightning's `deterministic` switches torch globally, and its advertisements go through logging: neither outlives a run."""
    before, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    talk = logging.getLogger("lightning.pytorch")
    level = talk.level
    talk.setLevel(logging.WARNING)
    try:
        yield
    finally:
        talk.setLevel(level)
        torch.use_deterministic_algorithms(before, warn_only=warn)
