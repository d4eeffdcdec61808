"""`pointlift fit` for classifiers: Image2Point from a recipe to a checkpoint, with everything about the run on record."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from pointlift.data.config import DataConfig
from pointlift.data.training_clouds import CloudData, load_splits
from pointlift.methods.image2point import DivergenceError, Image2Point
from pointlift.methods.optim import OptimConfig
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.config import ModelConfig
from pointlift.models.factory import LIFTED_NETWORKS
from pointlift.runs.engine import RunRecord, make_trainer, run, settings_restored
from pointlift.runs.folder import RunFolder
from pointlift.runs.start import StoredResult, finished_result, recipe_of
from pointlift.system.distributed import process_rank
from pointlift.system.environment import environment
from pointlift.weights.checkpoints import save_checkpoint
from pointlift.weights.network import build_network

__all__ = [
    "DataConfig",
    "FitResult",
    "ModelConfig",
    "OptimConfig",
    "TrainerConfig",
    "fit_image2point",
]

_MODEL, _DATA, _OPTIM, _TRAINER = ModelConfig(), DataConfig(), OptimConfig(), TrainerConfig()


@dataclass(frozen=True)
class FitResult(StoredResult):
    """What a run measured.

    Attributes:
        metrics: of the last epoch: train_loss, train_accuracy, val_loss, val_accuracy, val_class_accuracy, lr, and test_* where
            epochs are evaluated on a held-out part of the training split. Accuracies are fractions in 0-1.
        best: {"epoch", "val_accuracy"} of the best epoch, not what is reported: chosen on the split it was measured on. The
            first epoch is 0, as in metrics.csv; what is printed or drawn counts from 1.
        checkpoint: model.safetensors, the weights after the last epoch.
        csv: metrics.csv, one row per epoch. seconds: of training and evaluation, over all its resumptions.
        trainable, total: parameters.
    """

    metrics: dict[str, float]
    best: dict[str, float]
    checkpoint: Path
    csv: Path
    seconds: float
    trainable: int
    total: int


def fit_image2point(
    model: ModelConfig = _MODEL,
    data: DataConfig = _DATA,
    optim: OptimConfig = _OPTIM,
    trainer: TrainerConfig = _TRAINER,
    seed: int = 0,
    out: str | Path = "runs/image2point",
    resume: bool = False,
) -> FitResult:
    """Fine-tune (or train from scratch) an inflated image network on clouds; everything about the run is in `out` afterwards.

    The last epoch is what is reported and exported (facts, trap T12); the best one is kept beside it. With `resume` the run in `out` goes
    on from last.ckpt; its weights end as if it had never stopped. A finished run is not repeated: its result is returned.

    Raises RunFolderError for a folder that holds another run, or none to resume; RunWriteError for a full disk; RunInterrupted after
    Ctrl-C; DivergenceError for a loss that is not a number; and what `load_splits` and `build_network` raise.
    """
    recipe, folder = recipe_of("image2point", seed, model=model, data=data, optim=optim, trainer=trainer), RunFolder(out)
    if (finished := finished_result(folder, recipe, resume, FitResult.read)) is not None:
        return finished
    splits = load_splits(data, seed)
    clouds = CloudData(splits, data, model.in_channels, seed, trainer.devices * trainer.num_nodes)
    num_classes = len(splits.train.classes)
    net = build_network(model, num_classes, seed)
    module = Image2Point(net, num_classes, model.regime, data.voxel_size, seed=seed, **optimization(optim, trainer, clouds))
    return record_training(module, clouds, folder, recipe, model, optim, trainer, resume)


def optimization(optim: OptimConfig, trainer: TrainerConfig, clouds: CloudData) -> dict[str, Any]:
    """`OptimConfig` as keyword arguments of `Image2Point`, with the length of the run in optimizer steps."""
    settings = {k: v for k, v in asdict(optim).items() if k != "epochs"}
    steps = -(-clouds.steps_per_epoch // trainer.accumulate_grad_batches) * optim.epochs
    return {**settings, "total_steps": steps if trainer.max_steps == -1 else min(steps, trainer.max_steps)}


def record_training(
    module: Image2Point,
    clouds: CloudData,
    folder: RunFolder,
    recipe: dict[str, Any],
    model: ModelConfig,
    optim: OptimConfig,
    trainer: TrainerConfig,
    resume: bool,
    facts: Mapping[str, Any] | None = None,
    also: Mapping[str, Image2Point] | None = None,
    save: Callable[[Path, dict[str, Any]], object] | None = None,
) -> FitResult:
    """Train `module` on `clouds` with everything about it in `folder`: what classifiers have in common, whatever their method.

    model: of module.net. facts: what the method adds to the protocol. also: other classifiers to evaluate on the same splits in the
    end; their metrics carry the name as a prefix. save: writes module.net and this protocol to a path, for networks that are none of
    clouds; without it they become checkpoints. Raises as `fit_image2point` does.
    """
    report, net = module.finetune, module.net
    assert report is not None
    protocol = {**_protocol(recipe, clouds, module), **(facts or {})}
    config = {} if save is not None else _checkpoint_config(model, clouds, net)

    def export(path: Path, epoch: int) -> None:
        with folder.writing(path.name) as temporary:
            if save is not None:
                save(temporary, {**protocol, "epoch": epoch})
            else:
                save_checkpoint(temporary, net, {**config, "protocol": {**protocol, "epoch": epoch}})

    record = RunRecord(folder, export, "val_accuracy", trainer.checkpoint_every_n_steps)
    with settings_restored():
        engine = make_trainer(trainer, optim, record, clouds.steps_per_epoch)
        if process_rank() == 0:
            folder.start(recipe, protocol)
            if hasattr(net, "report"):
                print(net.report)
        measured = run(engine, module, clouds, record, resume, also)
    last = record.rows[-1]
    metrics = {**{k: v for k, v in last.items() if k not in ("epoch", "step", "seconds")}, **measured}
    _check_finite(metrics, int(last["epoch"]))
    best = {} if record.best is None else {"epoch": record.best[0], "val_accuracy": record.best[1]}
    seconds = sum(row["seconds"] for row in record.rows)
    result = FitResult(metrics, best, folder.final, folder.metrics, seconds, report.trainable, report.total)
    if engine.is_global_zero:
        export(folder.final, int(last["epoch"]))
        folder.write_json("result.json", result.to_dict())
    return result


def _check_finite(metrics: Mapping[str, float], epoch: int) -> None:
    """Raises DivergenceError where the network of the last epoch gives numbers that are none, though every training loss was finite."""
    bad = [name for name, value in metrics.items() if not math.isfinite(value)]
    if bad:
        what = "NaN" if math.isnan(metrics[bad[0]]) else "infinite"
        raise DivergenceError(
            f"{bad[0]} is {what} after the last epoch ({epoch + 1}), the training losses were finite: the last steps were too large for "
            "evaluation; lower the learning rate (--optim.lr), clip gradients (--trainer.gradient_clip_val 1), or use larger batches."
        )


def _protocol(recipe: dict[str, Any], clouds: CloudData, module: Image2Point) -> dict[str, Any]:
    """What a reader needs to judge the numbers, and to repeat them."""
    assert module.finetune is not None
    return {
        "recipe": recipe,
        "data": clouds.splits.describe(),
        "reported_epoch": "last",
        "best_epoch": "highest val_accuracy over all epochs, on the split named above; kept, not reported",
        "votes": 1,
        "steps_per_epoch": clouds.steps_per_epoch,
        "clouds_per_step_and_device": clouds.local_batch,
        "incomplete_last_batch": "left out",
        "batch_norm": "statistics of each device's own clouds",
        "trainable_parameters": module.finetune.trainable,
        "parameters": module.finetune.total,
        "environment": environment(),
    }


def _checkpoint_config(model: ModelConfig, clouds: CloudData, net: nn.Module) -> dict[str, Any]:
    arguments: Any = net.arguments
    data, train = clouds.config, clouds.splits.train
    return {
        "image_model": model.image_model,
        "image_options": model.image_options,
        "network": next((name for name, kind in LIFTED_NETWORKS.items() if isinstance(net, kind)), "inflated"),
        "inflate": arguments,
        "num_classes": len(train.classes),
        "in_channels": model.in_channels,
        "classes": list(train.classes),
        "voxel_size": data.voxel_size,
        "features": data.features,
        "normalisation": data.normalise,
        "n_points": data.n_points,
        "up_axis": train.up_axis,
        "regime": model.regime,
    }
