"""`method: part_segmentation` of a recipe: PointNet++ names the parts of objects, its encoder random or trained to classify.

PointCMT, supplement B.5 and table 11: the encoder of a classifier trained on ModelNet40, once with PointCMT and once without, in
PointNet++'s segmentation network on ShapeNetPart. The paper says nothing of how that is trained: the recipes take the original code's
settings (Qi et al. 2017).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from pointlift.data.config import DataConfig
from pointlift.data.training_clouds import CloudData, CloudSplits, load_splits
from pointlift.methods.image2point import DivergenceError
from pointlift.methods.optim import OptimConfig
from pointlift.methods.segmentation.parts import PartSegmentation
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.methods.training import optimization
from pointlift.models.points.pointnet2_parts import PointNet2Parts, pointnet2_msg_parts, pointnet2_ssg_parts
from pointlift.runs.engine import RunRecord, make_trainer, run, settings_restored
from pointlift.runs.folder import RunFolder
from pointlift.runs.start import StoredResult, finished_result, recipe_of
from pointlift.system.distributed import process_rank
from pointlift.system.environment import environment
from pointlift.weights.checkpoints import save_checkpoint
from pointlift.weights.encoder import load_encoder

__all__ = ["PartFitResult", "PartModelConfig", "build_part_network", "fit_part_segmentation"]

NETWORKS: dict[str, Callable[..., PointNet2Parts]] = {"ssg": pointnet2_ssg_parts, "msg": pointnet2_msg_parts}
BEST = "val_instance_miou"


@dataclass(frozen=True)
class PartModelConfig:
    """The network of parts and what its encoder starts from.

    Attributes:
        kind: PointNet++ with "ssg" (single-scale grouping) or "msg" (multi-scale grouping).
        cloud_weights: a checkpoint of a PointNet++ of the same kind, whose encoder is taken: a classifier's, a PointCMT student's; null
            starts from random weights.
        options: keyword arguments of the network, e.g. {npoint: [128, 32]}; see `pointlift.models.points.pointnet2_parts`.
        in_channels: channels per point; must be what `data.features` delivers: 3, or 6 with normals (features xyz+own).
        use_category: whether the network is told the category of the object, as one-hot channels of every point.
        restrict_to_category: whether predictions are taken among the parts of the object's category only; the field's convention.
    """

    kind: Literal["ssg", "msg"] = "ssg"
    cloud_weights: str | None = None
    options: dict[str, Any] | None = None
    in_channels: int = 3
    use_category: bool = True
    restrict_to_category: bool = True


@dataclass(frozen=True)
class PartFitResult(StoredResult):
    """What a run measured.

    Attributes:
        metrics: of the last epoch: train_loss, train_accuracy (of points), val_loss, val_instance_miou, val_class_miou,
            val_point_accuracy, lr, and test_* where epochs are evaluated on a held-out part of the training split. Fractions in 0-1.
        best: {"epoch", "val_instance_miou"} of the best epoch, not what is reported: chosen on the split it was measured on.
        checkpoint: model.safetensors, the weights after the last epoch. csv: metrics.csv, one row per epoch.
        seconds: of training and evaluation, over all its resumptions. parameters: of the network.
        loaded: tensors of the encoder that came from `cloud_weights`.
    """

    metrics: dict[str, float]
    best: dict[str, float]
    checkpoint: Path
    csv: Path
    seconds: float
    parameters: int
    loaded: int


_MODEL, _DATA, _OPTIM, _TRAINER = PartModelConfig(), DataConfig(n_points=2048), OptimConfig(), TrainerConfig()


def build_part_network(config: PartModelConfig, categories: int, parts: int, seed: int) -> PointNet2Parts:
    """The network of a recipe with random weights, drawn from `seed`. Raises ValueError for options that do not fit."""
    options = dict(config.options or {})
    own = {"in_channels": "model.in_channels", "num_classes": "the data", "categories": "model.use_category"}
    for name, where in own.items():
        if name in options:
            raise ValueError(f"model.options has {name}, which follows from {where}: leave it out.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return NETWORKS[config.kind](config.in_channels, parts, categories if config.use_category else 0, **options)
        except TypeError as error:
            raise ValueError(f"model.options cannot be used for PointNet++ ({error}).") from None


def fit_part_segmentation(
    model: PartModelConfig = _MODEL,
    data: DataConfig = _DATA,
    optim: OptimConfig = _OPTIM,
    trainer: TrainerConfig = _TRAINER,
    seed: int = 0,
    out: str | Path = "runs/part_segmentation",
    resume: bool = False,
) -> PartFitResult:
    """Train a network of parts; everything about the run is in `out` afterwards.

    data.source is "shapenetpart:FOLDER" (trained on train and val together, tested on test, as the papers do) or "procedural:shapes".
    data.normalise, n_points and so on are as for classifiers: random points in training, the first ones in evaluation, null for all.
    The last epoch is what is reported and exported; the best one is kept beside it. With `resume` the run in `out` goes on from
    last.ckpt; its weights end as if it had never stopped. A finished run is not repeated: its result is returned.

    Raises RunFolderError for a folder that holds another run, or none to resume; RunWriteError for a full disk; RunInterrupted after
    Ctrl-C; DivergenceError for a loss that is not a number; and what `load_splits`, `build_part_network` and `load_encoder` raise.
    """
    recipe, folder = recipe_of("part_segmentation", seed, model=model, data=data, optim=optim, trainer=trainer), RunFolder(out)
    if trainer.early_stop_patience is not None and not trainer.early_stop_metric.endswith("loss"):
        raise ValueError(
            f"trainer: early_stop_metric is {trainer.early_stop_metric}, expected val_loss or train_loss in part segmentation."
        )
    if (finished := finished_result(folder, recipe, resume, PartFitResult.read)) is not None:
        return finished
    found = load_splits(data, seed, "parts")
    clouds = CloudData(found, data, model.in_channels, seed, trainer.devices * trainer.num_nodes)
    net = build_part_network(model, len(found.part_labels.categories), len(found.part_labels), seed)
    loaded: dict[str, Any] = {"tensors": 0}
    if model.cloud_weights is not None:
        report = load_encoder(model.cloud_weights, net)
        loaded = {"tensors": len(report.loaded), "report": report.render()}
        if process_rank() == 0:
            print(report.render())
    options = {"seed": seed, **optimization(optim, trainer, clouds)}
    module = PartSegmentation(net, found.part_labels, model.restrict_to_category, voxel_size=data.voxel_size, **options)
    return _record(module, clouds, found, folder, recipe, model, optim, trainer, resume, loaded)


class PartRecord(RunRecord):
    """`RunRecord` of the numbers of part segmentation."""

    NAMES = ("train_loss", "train_accuracy", "val_loss", BEST, "val_class_miou", "val_point_accuracy", "lr")
    EVALUATED = BEST


def _record(
    module: PartSegmentation,
    clouds: CloudData,
    found: CloudSplits,
    folder: RunFolder,
    recipe: dict[str, Any],
    model: PartModelConfig,
    optim: OptimConfig,
    trainer: TrainerConfig,
    resume: bool,
    loaded: dict[str, Any],
) -> PartFitResult:
    protocol = _protocol(recipe, clouds, module, loaded)
    config = _checkpoint_config(model, clouds, found, module.net)

    def export(path: Path, epoch: int) -> None:
        with folder.writing(path.name) as temporary:
            save_checkpoint(temporary, module.net, {**config, "protocol": {**protocol, "epoch": epoch}})

    record = PartRecord(folder, export, BEST, trainer.checkpoint_every_n_steps)
    with settings_restored():
        engine = make_trainer(trainer, optim, record, clouds.steps_per_epoch)
        if process_rank() == 0:
            folder.start(recipe, protocol)
        measured = run(engine, module, clouds, record, resume)
    last = record.rows[-1]
    metrics = {**{k: v for k, v in last.items() if k not in ("epoch", "step", "seconds")}, **measured}
    if bad := [name for name, value in metrics.items() if not math.isfinite(value)]:
        raise DivergenceError(
            f"{bad[0]} is not finite after the last epoch ({int(last['epoch']) + 1}): lower the learning rate (--optim.lr)."
        )
    best = {} if record.best is None else {"epoch": record.best[0], BEST: record.best[1]}
    seconds, size = sum(row["seconds"] for row in record.rows), sum(p.numel() for p in module.net.parameters())
    result = PartFitResult(metrics, best, folder.final, folder.metrics, seconds, size, int(loaded["tensors"]))
    if engine.is_global_zero:
        export(folder.final, int(last["epoch"]))
        folder.write_json("result.json", result.to_dict())
        said = [
            f"{name} {100 * metrics[f'val_{key}']:.2f} %"
            for name, key in (("instance mIoU", "instance_miou"), ("class mIoU", "class_miou"))
        ]
        print(f"{', '.join(said)} after the last epoch; {seconds:.0f} s; checkpoint {result.checkpoint}")
    return result


def _protocol(recipe: dict[str, Any], clouds: CloudData, module: PartSegmentation, loaded: dict[str, Any]) -> dict[str, Any]:
    among = "the parts of the cloud's category, which is known" if module.restrict else "all parts"
    return {
        "recipe": recipe,
        "data": clouds.splits.describe(),
        "reported_epoch": "last",
        "best_epoch": f"highest {BEST} over all epochs, on the split named above; kept, not reported",
        "prediction": f"highest score among {among}",
        "iou": "mean over the parts of a shape's category, 1 for a part that is in neither truth nor prediction",
        "votes": 1,
        "encoder": loaded,
        "steps_per_epoch": clouds.steps_per_epoch,
        "clouds_per_step_and_device": clouds.local_batch,
        "incomplete_last_batch": "left out",
        "batch_norm": "statistics of each device's own clouds",
        "parameters": sum(p.numel() for p in module.net.parameters()),
        "environment": environment(),
    }


def _checkpoint_config(model: PartModelConfig, clouds: CloudData, found: CloudSplits, net: Any) -> dict[str, Any]:
    data, train = clouds.config, clouds.splits.train
    return {
        "image_model": f"pointnet2-{model.kind}-parts",
        "inflate": net.arguments,
        "num_classes": len(found.part_labels),
        "in_channels": model.in_channels,
        "classes": list(found.part_labels.names),
        "categories": list(found.part_labels.categories),
        "parts": [list(parts) for parts in found.part_labels.parts],
        "restrict_to_category": model.restrict_to_category,
        "voxel_size": data.voxel_size,
        "features": data.features,
        "normalisation": data.normalise,
        "n_points": data.n_points,
        "up_axis": train.up_axis,
        "regime": "all",
    }
