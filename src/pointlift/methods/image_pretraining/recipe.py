"""`method: image_pretraining` of a recipe: an image classifier from random weights, on any image source or on embedded fractals."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import nn

from pointlift.data.errors import DataError, worker_errors
from pointlift.data.images.crops import CenterCrop, CroppedImages, ImageOrder, PreparedImages, TrainCrop
from pointlift.data.images.open import open_images
from pointlift.data.loader import KeyedData, Loaders
from pointlift.data.procedural.fractals.fractal_images import FractalImages
from pointlift.data.procedural.fractals.systems import search_categories
from pointlift.methods.image_pretraining.configs import ImageDataConfig, ImageModelConfig, ImageViewConfig
from pointlift.methods.image_pretraining.module import (
    FractalDataConfig,
    ImageClassifier,
    ImageOptimConfig,
    fractal_pictures,
    source_commit,
    top1,
)
from pointlift.methods.optim import OptimConfig
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models import image_network
from pointlift.models.factory import is_own_code
from pointlift.models.images.fractal_resnet import ASSET, IMAGE_MEAN, IMAGE_STD, fractal_resnet
from pointlift.runs.engine import RunRecord, make_trainer, run, settings_restored
from pointlift.runs.folder import RunFolder
from pointlift.runs.start import StoredResult, finished_result, recipe_of
from pointlift.system.distributed import process_rank
from pointlift.system.environment import environment
from pointlift.weights.image_weights import save_image_model

__all__ = ["ImageFitResult", "fit_image_network"]

_MODEL, _DATA, _VIEWS = ImageModelConfig(), ImageDataConfig(), ImageViewConfig()
_OPTIM, _TRAINER = ImageOptimConfig(), TrainerConfig()


@dataclass(frozen=True)
class ImageFitResult(StoredResult):
    """What a run measured.

    Attributes:
        metrics: of the last epoch: train_loss, train_accuracy, val_loss, val_accuracy (top-1), lr. Accuracies are fractions in 0-1.
        best: {"epoch", "val_accuracy"} of the best epoch, which is kept (best.safetensors) and not reported.
        checkpoint: model.safetensors, the image network's own tensors by their own names. csv: metrics.csv, a row per epoch.
        seconds: of training and evaluation, over all resumptions. classes: outputs. parameters: of the network.
    """

    metrics: dict[str, float]
    best: dict[str, float]
    checkpoint: Path
    csv: Path
    seconds: float
    classes: int
    parameters: int


@dataclass(frozen=True)
class ImageSplits:
    """The pictures of a run as (views, labels), and how the classifier goes on with them; `test` is None: val is the held-out split."""

    name: str
    classes: tuple[str, ...]
    train: KeyedData
    val: KeyedData
    train_size: int
    val_size: int
    crop: int | None
    flip: bool
    mean: list[float]
    std: list[float]
    test: None = None


class ImageData(Loaders):
    """The loaders of a run: every step takes `batch_size` pictures over all devices; an incomplete last batch of an epoch is left out.

    Raises ValueError where batch size, pictures and devices do not fit together.
    """

    def __init__(self, splits: ImageSplits, batch_size: int, num_workers: int, seed: int, world: int) -> None:
        self.splits, local = splits, min(batch_size, splits.train_size) // world
        if batch_size % world == 0 and (splits.train_size < 2 or splits.val_size < 1 or local < 2):
            raise ValueError(
                f"{splits.name}: got {splits.train_size} training and {splits.val_size} held-out pictures for {world} devices, expected at "
                "least 2 training pictures for each device and 1 held out."
            )
        super().__init__(
            splits.train, splits.val, batch_size=batch_size, seed=seed, world_size=world, num_workers=num_workers,
            evaluation_batch=2 * local, order=ImageOrder, name=splits.name, items="pictures", setting="optim.batch_size",
        )  # fmt: skip


def fit_image_network(
    model: ImageModelConfig = _MODEL,
    data: ImageDataConfig = _DATA,
    views: ImageViewConfig = _VIEWS,
    optim: ImageOptimConfig = _OPTIM,
    trainer: TrainerConfig = _TRAINER,
    seed: int = 0,
    out: str | Path = "runs/pretraining",
    resume: bool = False,
) -> ImageFitResult:
    """Train an image network from random weights; everything about the run is in `out` afterwards, its weights in model.safetensors.

    The weights load into the same network (`model.weights` of an image2point recipe). With `resume` the run in `out` goes on from its last
    finished epoch and ends as if it had never stopped; a finished run is not repeated. The embedded network on the embedded fractals is
    also written as fractal_resnet.safetensors, in float16 and with its facts, the file that ships.

    Raises ValueError for settings or networks that do not fit the data, DataError for what is wrong with the pictures, RunFolderError for
    a folder that holds another run or none to resume, RunWriteError for a full disk, RunInterrupted after Ctrl-C and DivergenceError for a
    loss that is not a number.
    """
    if data.source is None and views != _VIEWS:
        raise ValueError("views are given, but the embedded fractals (data.source null) bring their own: leave them out or name a source.")
    recipe, folder = recipe_of("image_pretraining", seed, model=model, data=data, views=views, optim=optim, trainer=trainer), RunFolder(out)
    if (finished := finished_result(folder, recipe, resume, ImageFitResult.read)) is not None:
        return finished
    splits = _embedded_splits(data) if data.source is None else _source_splits(data, views, seed)
    network = _network(model, splits, seed)
    pictures = ImageData(splits, optim.batch_size, data.num_workers, seed, trainer.devices * trainer.num_nodes)
    result = _train(network, pictures, model, optim, trainer, folder, recipe, resume)
    if data.source is None and model.name == "fractal_resnet" and not model.options and process_rank() == 0:
        _write_embedded(network, splits, recipe, result.seconds, folder)
    return result


def _train(
    network: nn.Module,
    pictures: ImageData,
    model: ImageModelConfig,
    optim: ImageOptimConfig,
    trainer: TrainerConfig,
    folder: RunFolder,
    recipe: dict[str, Any],
    resume: bool,
) -> ImageFitResult:
    splits, seed = pictures.splits, int(recipe["seed"])
    steps = -(-pictures.steps_per_epoch // trainer.accumulate_grad_batches) * optim.epochs
    steps = steps if trainer.max_steps == -1 else min(steps, trainer.max_steps)
    module = ImageClassifier(
        network.to(memory_format=torch.channels_last), optim, splits.crop, splits.flip, seed, splits.mean, splits.std, steps
    )
    protocol = _protocol(recipe, pictures, network)
    facts = {
        "classes": json.dumps(splits.classes),
        "recipe": json.dumps(recipe),
        "mean": json.dumps(splits.mean),
        "std": json.dumps(splits.std),
    }

    def export(path: Path, epoch: int) -> None:
        with folder.writing(path.name) as temporary:
            save_image_model(network, temporary, {**facts, "epoch": str(epoch)}, model.half)

    record = RunRecord(folder, export, "val_accuracy", trainer.checkpoint_every_n_steps)
    with settings_restored(), worker_errors():
        engine = make_trainer(trainer, OptimConfig(epochs=optim.epochs), record, pictures.steps_per_epoch)
        if process_rank() == 0:
            folder.start(recipe, protocol)
        measured = run(engine, module, cast(Any, pictures), record, resume)
    network.cpu()
    last = record.rows[-1]
    metrics = {**{k: v for k, v in last.items() if k not in ("epoch", "step", "seconds")}, **measured}
    best = {} if record.best is None else {"epoch": record.best[0], "val_accuracy": record.best[1]}
    seconds = sum(row["seconds"] for row in record.rows)
    result = ImageFitResult(
        metrics, best, folder.final, folder.metrics, seconds, len(splits.classes), sum(p.numel() for p in network.parameters())
    )
    if engine.is_global_zero:
        export(folder.final, int(last["epoch"]))
        folder.write_json("result.json", result.to_dict())
        accuracy = 100 * metrics.get("val_accuracy", float("nan"))
        print(f"held-out accuracy {accuracy:.1f} % after {optim.epochs} epochs and {seconds:.0f} s; weights in {folder.path}")
    return result


def _source_splits(data: ImageDataConfig, views: ImageViewConfig, seed: int) -> ImageSplits:
    assert data.source is not None
    train, val = open_images(data.source, "train"), open_images(data.source, "val")
    if train.classes != val.classes:
        raise DataError(f"{train.name}: train and val have different classes ({len(train.classes)} and {len(val.classes)}).")
    if data.limit_per_class is not None:
        train = train.limited(data.limit_per_class, seed)
    seen: tuple[KeyedData, KeyedData] = (
        CroppedImages(train, TrainCrop(views.size, views.train, flip=views.flip, seed=seed)),
        CroppedImages(val, CenterCrop(views.size, views.resize)),
    )
    return ImageSplits(train.name, train.classes, *seen, len(train), len(val), None, False, list(views.mean), list(views.std))


def _embedded_splits(data: ImageDataConfig) -> ImageSplits:
    """Fractals in memory, cropped and flipped batch by batch on the device: what made the weights that ship."""
    categories = search_categories(data.categories, data.seed)
    pictures: tuple[FractalImages, FractalImages] = (
        fractal_pictures(data, categories, "train"),
        fractal_pictures(data, categories, "val"),
    )
    prepared = [PreparedImages(p, len(p)) for p in pictures]
    if data.limit_per_class is not None:
        raise ValueError("data: limit_per_class is for sources of pictures; set instances_per_class of the embedded fractals instead.")
    crop = data.image_size * 7 // 8
    sizes = len(pictures[0]), len(pictures[1])
    name = f"{data.categories} embedded fractals"
    return ImageSplits(name, pictures[0].classes, prepared[0], prepared[1], *sizes, crop, True, [IMAGE_MEAN], [IMAGE_STD])


def _network(model: ImageModelConfig, splits: ImageSplits, seed: int) -> nn.Module:
    """The network with weights drawn from `seed`, after it has shown that it makes so many logits of a picture."""
    classes = len(splits.classes)
    if model.num_classes not in (None, classes):
        raise ValueError(f"model: num_classes is {model.num_classes}, but {splits.name} has {classes} classes: leave it out.")
    options = dict(model.options or {})
    if not is_own_code(model.name):
        options["num_classes"] = classes
    if model.name == "fractal_resnet":
        options["generator"] = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = image_network(model.name, options=options)
    picture = splits.val[(0, 0)][0]  # looked up by (epoch, index)
    side = picture.shape[-1] if splits.crop is None else splits.crop
    try:
        with torch.inference_mode():
            logits = network.eval()(torch.zeros(1, 3, side, side))
        shape = tuple(logits.shape)
    except (RuntimeError, ValueError, AssertionError, TypeError, IndexError, AttributeError) as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ValueError(
            f"{model.name} cannot take pictures of {side} x {side} pixels ({reason}); change views.size or model.options."
        ) from None
    if shape != (1, classes):
        raise ValueError(
            f"{model.name} makes {shape} of a picture, expected (1, {classes}) logits: pass its number of outputs in model.options."
        )
    return network.train()


def _protocol(recipe: dict[str, Any], pictures: ImageData, network: nn.Module) -> dict[str, Any]:
    splits = pictures.splits
    return {
        "recipe": recipe,
        "data": {"source": splits.name, "classes": len(splits.classes), "pictures": {"train": splits.train_size, "val": splits.val_size}},
        "reported_epoch": "last",
        "best_epoch": "highest val_accuracy over all epochs, on the split named above; kept, not reported",
        "evaluation": "one central view of every picture",
        "steps_per_epoch": pictures.steps_per_epoch,
        "pictures_per_step_and_device": pictures.local_batch,
        "incomplete_last_batch": "left out",
        "batch_norm": "statistics of each device's own pictures",
        "parameters": sum(p.numel() for p in network.parameters()),
        "environment": environment(),
    }


def _write_embedded(network: nn.Module, splits: ImageSplits, recipe: dict[str, Any], seconds: float, folder: RunFolder) -> None:
    """The file that ships, float16; the accuracy in its metadata is that of these weights in float32 arithmetic."""
    classes = len(splits.classes)
    half = fractal_resnet(num_classes=classes)
    half.load_state_dict({name: t.half().float() if t.is_floating_point() else t for name, t in load_file(folder.final).items()})
    assert isinstance(splits.val, PreparedImages)
    accuracy = top1(half, splits.val.images, splits.crop)
    made = {"method": recipe["method"], "seed": recipe["seed"], "model": {"name": "fractal_resnet", "num_classes": classes}}
    made |= {"data": {f.name: recipe["data"][f.name] for f in fields(FractalDataConfig)}, "optim": recipe["optim"]}
    facts = {"recipe": json.dumps(made), "seed": str(recipe["seed"]), "commit": source_commit(), "torch": torch.__version__}
    facts |= {"classes": str(classes), "seconds": f"{seconds:.0f}", "val_accuracy": f"{accuracy:.4f}", "crop": str(splits.crop)}
    with folder.writing(ASSET) as temporary:
        save_image_model(half, temporary, facts)
