"""Lightning, set up so that a run can be killed at any moment and goes on exactly where its last checkpoint
was written.
"""

from __future__ import annotations

import logging
import pickle
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from pointlift.methods.base import Training
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.runs.averaging import WeightAverage
from pointlift.runs.folder import RunFolder, RunFolderError
from pointlift.runs.progress import progress_of
from pointlift.runs.record import AtomicCheckpointIO, RunRecord
from pointlift.weights.archive import read_archive

__all__ = ["RunInterrupted", "fit", "make_trainer", "settings_restored"]


# warnings of Lightning's that say nothing to a user of pointlift
UNREMARKABLE = (
    ".*isinstance.treespec, LeafSpec.*",  # its own affair with torch
    ".*does not have many workers.*",
    ".*number of training batches .* is smaller than the logging interval.*",
    ".*module.s. in eval mode at the start of training.*",  # the regimes freeze statistics
    ".*It is recommended to use .*sync_dist=True.*",  # metrics are global before they are logged
    ".*Checkpoint directory .* exists and is not empty.*",
)


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM during a run, after it was shut down; the message says how to go on. exit_code:
    130 or 143.
    """

    def __init__(self, message: str, exit_code: int = 130) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def make_trainer(
    config: TrainerConfig, training: Training, record: RunRecord, average: WeightAverage | None = None
) -> lightning.Trainer:
    """A Trainer that logs to TensorBoard (and W&B where asked),
    records the run and leaves sampling to pointlift's loaders. average: of the weights, None for none.

    Raises ValueError for an early_stop_metric that is not measured, or not after every epoch, and for a W&B
    extra that is not installed, and Lightning's own errors for devices that do not exist.
    """
    folder = record.folder
    callbacks: list[Callback] = [record] if average is None else [average, record]
    if config.enable_progress_bar:
        callbacks.append(progress_of(training))
    if config.early_stop_patience is not None and training.stops_early:
        callbacks.insert(0, _early_stopping(config, record))
    return lightning.Trainer(
        **config.of_lightning(),
        max_epochs=training.epochs,
        # the same on every device, whatever its own loader could still deliver
        limit_train_batches=training.data.steps_per_epoch,
        check_val_every_n_epoch=config.evaluate_every,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=folder.path,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO(folder)],
        logger=_loggers(folder, config),
    )


def _early_stopping(config: TrainerConfig, record: RunRecord) -> EarlyStopping:
    metric = config.early_stop_metric
    measured = [name for name in record.columns if name != "lr"]
    if metric not in measured:
        raise ValueError(f"trainer: early_stop_metric is {metric}, expected one of {', '.join(measured)}.")
    if config.evaluate_every > 1 and metric.startswith("val_"):
        raise ValueError(
            f"trainer: early_stop_metric {metric} is needed after every epoch, "
            f"but evaluate_every is {config.evaluate_every}."
        )
    mode = "min" if metric.endswith("loss") else "max"
    return EarlyStopping(
        metric, patience=config.early_stop_patience or 0, mode=mode, check_on_train_epoch_end=True
    )


def _loggers(folder: RunFolder, config: TrainerConfig) -> list[Logger]:
    loggers: list[Logger] = [
        TensorBoardLogger(folder.path, name="", version="tensorboard", purge_step=_step(folder.last))
    ]
    if config.wandb:
        try:
            from lightning.pytorch.loggers import WandbLogger

            loggers.append(WandbLogger(name=folder.path.name, save_dir=folder.path, project="pointlift"))
        except ModuleNotFoundError:
            raise ValueError(
                "trainer.wandb is true, but wandb is not installed: pip install 'pointlift[wandb]'."
            ) from None
    return loggers


def _step(checkpoint: Path) -> int | None:
    """The step of a checkpoint, behind which a killed run may have logged;
    None where there is no checkpoint.
    """
    if not checkpoint.is_file():
        return None
    try:
        return int(torch.load(checkpoint, map_location="cpu", weights_only=True)["global_step"])
    except (
        RuntimeError,
        OSError,
        EOFError,
        KeyError,
        TypeError,
        ValueError,
        pickle.UnpicklingError,
    ) as error:
        raise RunFolderError(
            f"{checkpoint} is damaged or no checkpoint of a run ({type(error).__name__}): restore it, or "
            "start again in another folder."
        ) from None


def fit(
    trainer: lightning.Trainer,
    training: Training,
    record: RunRecord,
    resume: bool,
    average: WeightAverage | None = None,
) -> tuple[dict[str, float], dict[str, float]]:
    """Train, from last.ckpt with `resume`, and evaluate: on the test split where the data have one of their
    own, and on the validation split where the run ended within an epoch. The modules of `training.also` are
    evaluated on both, untrained; what they log is returned under their name (name_val_accuracy) and not
    logged. The network ends with `average`, where there is one.

    Returns what these evaluations logged, and what the test split gives with the weights of the best epoch
    (empty without a test split of its own). Raises RunInterrupted after Ctrl-C or SIGTERM.
    """
    measured: dict[str, float] = {}
    module, data, folder = training.module, training.data, record.folder
    best: dict[str, float] = {}
    given: dict[str, Any] = {"datamodule": data, "verbose": False}
    with _interrupts(trainer, folder), torch.random.fork_rng(), warnings.catch_warnings():
        for message in UNREMARKABLE:
            warnings.filterwarnings("ignore", message)
        trainer.fit(module, datamodule=data, ckpt_path=folder.last if resume else None, weights_only=True)
        if average is not None:
            average.settle(module.net)
        if not record.validated:
            measured.update(trainer.validate(module, **given)[0])
        if data.test is not None:
            measured.update(trainer.test(module, **given)[0])
        trainer.loggers = []  # what follows is of other weights than the run's
        if data.test is not None and record.best is not None:
            with _weights_of(module.net, record, trainer):
                best = dict(trainer.test(module, **given)[0])
        for name, other in training.also.items():
            logged = dict(trainer.validate(other, **given)[0])
            if data.test is not None:
                logged.update(trainer.test(other, **given)[0])
            measured.update({f"{name}_{key}": value for key, value in logged.items()})
    return measured, best


@contextmanager
def _weights_of(net: torch.nn.Module, record: RunRecord, trainer: lightning.Trainer) -> Iterator[None]:
    """The network as it was after the best epoch; the first process has the file."""
    assert record.best is not None
    if record.best[0] == int(record.rows[-1]["epoch"]):
        yield
        return
    last = {name: value.clone() for name, value in net.state_dict().items()}
    read = read_archive(record.folder.best).tensors if trainer.is_global_zero else None
    found: Any = trainer.strategy.broadcast(read or {})
    net.load_state_dict({name: found[name] for name in last})
    try:
        yield
    finally:
        net.load_state_dict(last)


@contextmanager
def _interrupts(trainer: lightning.Trainer, folder: RunFolder) -> Iterator[None]:
    """Lightning ends the process on Ctrl-C and leaves it deaf to the next one;
    here it becomes an exception that says how to go on.
    """
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
        raise RunInterrupted(
            f"The run was {what} in epoch {trainer.current_epoch + 1}: {how}.", 143 if terminated else 130
        ) from None
    finally:
        if main and before is not None:
            signal.signal(signal.SIGINT, before)


@contextmanager
def settings_restored() -> Iterator[None]:
    """Lightning's `deterministic` switches torch globally, and its advertisements go through logging:
    neither outlives a run.
    """
    before = torch.are_deterministic_algorithms_enabled()
    warn = torch.is_deterministic_algorithms_warn_only_enabled()
    talk = logging.getLogger("lightning.pytorch")
    level = talk.level
    talk.setLevel(logging.WARNING)
    try:
        yield
    finally:
        talk.setLevel(level)
        torch.use_deterministic_algorithms(before, warn_only=warn)
