"""`method: image_pretraining` of a recipe: an image classifier from random weights,
on any image source or on embedded fractals.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from safetensors.torch import load_file
from torch import nn

from pointlift.data.errors import DataError
from pointlift.data.images.crops import CenterCrop, CroppedImages, ImageOrder, PreparedImages, TrainCrop
from pointlift.data.images.open import open_images
from pointlift.data.loader import KeyedData, Loaders
from pointlift.data.procedural.fractals.fractal_images import FractalImages
from pointlift.data.procedural.fractals.systems import search_categories
from pointlift.methods.base import Best, Experiment, Place, Training, optimizer_steps
from pointlift.methods.image_pretraining.module import (
    FractalDataConfig,
    ImageClassifier,
    ImageOptimConfig,
    fractal_pictures,
    source_commit,
    top1,
)
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models import image_network
from pointlift.models.factory import is_own_code
from pointlift.models.images.fractal_resnet import ASSET, IMAGE_MEAN, IMAGE_STD, fractal_resnet
from pointlift.system.atomic import atomic_write
from pointlift.weights.image_weights import save_image_model

__all__ = ["ImageDataConfig", "ImageModelConfig", "ImagePretraining", "ImageViewConfig"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ImageModelConfig:
    """The network, with random weights.

    Attributes:
        name: "fractal_resnet", a timm name, "torchvision:NAME", "pointcontrast_resnet34" or
            "path/to/net.py:function" (your own).
        num_classes: outputs; null takes the number of classes of the data.
        options: keyword arguments of what makes the network;
            those of your own function must include its number of outputs, if it asks.
        half: store the weights as float16; null and false store them as they are.
    """

    name: str = "fractal_resnet"
    num_classes: int | None = None
    options: dict[str, Any] | None = None
    half: bool = False


@dataclass(frozen=True)
class ImageDataConfig(FractalDataConfig):
    """The pictures.

    Attributes:
        source: null makes the embedded fractals, of which `categories`, `instances_per_class`, `image_size`,
            `seed` and `val_instances` are the numbers, and which bring their own views (crops of 7/8 of the
            side, four flips, mean .2, std .5). Otherwise "imagenet:FOLDER", "tiny-imagenet:FOLDER",
            "fractaldb:FOLDER", "fractal-csv:FOLDER", "imagefolder:FOLDER" or "procedural:fractals?...", see
            `pointlift.data.images.open.open_images`.
        limit_per_class: train on at most so many pictures of a class, drawn from the run's seed;
            null takes all.
        num_workers: processes that read and augment, per device; results do not depend on it.
    """

    source: str | None = None
    limit_per_class: int | None = None
    num_workers: int = 0

    def __post_init__(self) -> None:
        numbers = [f for f in fields(FractalDataConfig) if getattr(self, f.name) != f.default]
        if self.source is not None and numbers:
            raise ValueError(
                f"data: {numbers[0].name} belongs to the embedded fractals, but source is {self.source!r}: "
                "leave it out, or write it as an option of the source (procedural:fractals?categories=60)."
            )
        if (limit := self.limit_per_class) is not None and limit < 1:
            raise ValueError(
                f"data: limit_per_class is {limit}, expected at least 1, or null for all pictures."
            )
        if self.num_workers < 0:
            raise ValueError(f"data: num_workers is {self.num_workers}, expected 0 or more.")


@dataclass(frozen=True)
class ImageViewConfig:
    """What the network sees of a picture; the defaults are those of PyTorch's ImageNet example.

    Attributes:
        train: "resized-crop" (a random window of 8 to 100 % of the area and aspect 3/4 to 4/3, resized) or
            "crop" (a random window of `size` pixels as it is).
        size: side of what the network sees, in pixels.
        flip: "horizontal", "all" (also up-down) or "none".
        resize: in evaluation the shorter side becomes so many pixels before the middle is cut out;
            null leaves it.
        mean, std: of the three channels, pixels in 0-1.
    """

    train: Literal["resized-crop", "crop"] = "resized-crop"
    size: int = 224
    flip: Literal["none", "horizontal", "all"] = "horizontal"
    resize: int | None = 256
    mean: list[float] = field(default_factory=lambda: list(IMAGENET_MEAN))
    std: list[float] = field(default_factory=lambda: list(IMAGENET_STD))

    def __post_init__(self) -> None:
        if self.size < 1 or (self.resize is not None and self.resize < self.size):
            raise ValueError(
                f"views: size is {self.size} and resize {self.resize}, "
                "expected a size of 1 or more and resize no smaller."
            )
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(
                f"views: mean is {list(self.mean)} and std {list(self.std)}, expected three numbers each, "
                "std above 0."
            )


@dataclass(frozen=True)
class ImageSplits:
    """The pictures of a run as (crops, labels), and how the classifier goes on with them;
    val is the held-out split.
    """

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

    def describe(self) -> dict[str, Any]:
        """For the protocol."""
        pictures = {"train": self.train_size, "val": self.val_size}
        return {"source": self.name, "classes": len(self.classes), "pictures": pictures}


class ImageData(Loaders):
    """The loaders of a run: every step takes `batch_size` pictures over all devices;
    an incomplete last batch of an epoch is left out.

    Raises ValueError where batch size, pictures and devices do not fit together.
    """

    def __init__(self, splits: ImageSplits, batch_size: int, num_workers: int, seed: int, world: int) -> None:
        self.splits, local = splits, min(batch_size, splits.train_size) // world
        if batch_size % world == 0 and (splits.train_size < 2 or splits.val_size < 1 or local < 2):
            raise ValueError(
                f"{splits.name}: got {splits.train_size} training and {splits.val_size} held-out pictures "
                f"for {world} devices, expected at least 2 training pictures for each device and 1 held out."
            )
        super().__init__(
            splits.train, splits.val, batch_size=batch_size, seed=seed, world_size=world,
            num_workers=num_workers, evaluation_batch=2 * local, order=ImageOrder, name=splits.name,
            items="pictures", setting="optim.batch_size",
        )  # fmt: skip


@dataclass(frozen=True)
class ImagePretraining(Experiment):
    """Train an image network from random weights, which are in model.safetensors by their own names
    afterwards.

    They load into the same network (`model.weights` of an image2point recipe). The embedded network on the
    embedded fractals is also written as fractal_resnet.safetensors, in float16 and with its facts, the file
    that ships. Metrics of the last epoch: train_loss, train_accuracy, val_loss, val_accuracy (top-1), lr.
    """

    method: ClassVar[str] = "image_pretraining"
    out: ClassVar[str] = "runs/pretraining"
    best: ClassVar[Best] = ("val_accuracy", "max")

    model: ImageModelConfig = ImageModelConfig()
    data: ImageDataConfig = ImageDataConfig()
    views: ImageViewConfig = ImageViewConfig()
    optim: ImageOptimConfig = ImageOptimConfig()
    trainer: TrainerConfig = TrainerConfig()
    seed: int = 0

    def check(self, place: Place) -> None:
        if self.data.source is None and self.views != ImageViewConfig():
            raise ValueError(
                "views are given, but the embedded fractals (data.source null) bring their own: "
                "leave them out or name a source."
            )

    def build(self, place: Place) -> Training:
        """Raises ValueError for settings or networks that do not fit the data,
        DataError for what is wrong with the pictures.
        """
        embedded = self.data.source is None
        splits = _embedded_splits(self.data) if embedded else _source_splits(self.data, self.views, self.seed)
        net = _network(self.model, splits, self.seed).to(memory_format=torch.channels_last)
        devices = self.trainer.devices * self.trainer.num_nodes
        pictures = ImageData(splits, self.optim.batch_size, self.data.num_workers, self.seed, devices)
        steps = optimizer_steps(pictures.steps_per_epoch, self.optim.epochs, self.trainer)
        shown = (splits.crop, splits.flip, splits.mean, splits.std)
        module = ImageClassifier(net, len(splits.classes), *shown, self.optim.settings(), self.seed, steps)

        def save(path: Path, protocol: dict[str, Any]) -> None:
            facts = {
                "classes": splits.classes,
                "recipe": protocol["recipe"],
                "mean": splits.mean,
                "std": splits.std,
            }
            save_image_model(net, path, {**facts, "epoch": protocol["epoch"]}, self.model.half)

        def write_embedded(seconds: float) -> None:
            net.cpu()
            if embedded and self.model.name == "fractal_resnet" and not self.model.options:
                _write_embedded(self, splits, seconds, place.folder)

        facts = {
            "data": splits.describe(),
            "evaluation": "one central view of every picture",
            "pictures_per_step_and_device": pictures.local_batch,
            "batch_norm": "statistics of each device's own pictures",
        }
        told = {"classes": len(splits.classes)}
        return Training(module, pictures, self.optim.epochs, save, facts, told, after=write_embedded)

    def summary(self, result: Any) -> str:
        accuracy = 100 * result.metrics.get("val_accuracy", float("nan"))
        return (
            f"held-out accuracy {accuracy:.1f} % after {self.optim.epochs} epochs and {result.seconds:.0f} s"
        )


def _source_splits(data: ImageDataConfig, views: ImageViewConfig, seed: int) -> ImageSplits:
    assert data.source is not None
    train, val = open_images(data.source, "train"), open_images(data.source, "val")
    if train.classes != val.classes:
        raise DataError(
            f"{train.name}: train and val have different classes ({len(train.classes)} and "
            f"{len(val.classes)})."
        )
    if data.limit_per_class is not None:
        train = train.limited(data.limit_per_class, seed)
    seen: tuple[KeyedData, KeyedData] = (
        CroppedImages(train, TrainCrop(views.size, views.train, flip=views.flip, seed=seed)),
        CroppedImages(val, CenterCrop(views.size, views.resize)),
    )
    return ImageSplits(
        train.name, train.classes, *seen, len(train), len(val), None, False, list(views.mean), list(views.std)
    )


def _embedded_splits(data: ImageDataConfig) -> ImageSplits:
    """Fractals in memory, cropped and flipped batch by batch on the device:
    what made the weights that ship.
    """
    categories = search_categories(data.categories, data.seed)
    pictures: tuple[FractalImages, FractalImages] = (
        fractal_pictures(data, categories, "train"),
        fractal_pictures(data, categories, "val"),
    )
    prepared = [PreparedImages(p, len(p)) for p in pictures]
    if data.limit_per_class is not None:
        raise ValueError(
            "data: limit_per_class is for sources of pictures; "
            "set instances_per_class of the embedded fractals instead."
        )
    crop = data.image_size * 7 // 8
    sizes = len(pictures[0]), len(pictures[1])
    name = f"{data.categories} embedded fractals"
    return ImageSplits(
        name, pictures[0].classes, prepared[0], prepared[1], *sizes, crop, True, [IMAGE_MEAN], [IMAGE_STD]
    )


def _network(model: ImageModelConfig, splits: ImageSplits, seed: int) -> nn.Module:
    """The network with weights drawn from `seed`, after it has shown that it makes so many logits of a
    picture.
    """
    classes = len(splits.classes)
    if model.num_classes not in (None, classes):
        raise ValueError(
            f"model: num_classes is {model.num_classes}, but {splits.name} has {classes} classes: "
            "leave it out."
        )
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
            f"{model.name} cannot take pictures of {side} x {side} pixels ({reason}); "
            "change views.size or model.options."
        ) from None
    if shape != (1, classes):
        raise ValueError(
            f"{model.name} makes {shape} of a picture, expected (1, {classes}) logits: "
            "pass its number of outputs in model.options."
        )
    return network.train()


def _write_embedded(run: ImagePretraining, splits: ImageSplits, seconds: float, folder: Path) -> None:
    """The file that ships, float16; the accuracy in its metadata is that of these weights in float32
    arithmetic.
    """
    classes, recipe = len(splits.classes), run.groups()
    half = fractal_resnet(num_classes=classes)
    trained = load_file(folder / "model.safetensors")
    half.load_state_dict(
        {name: t.half().float() if t.is_floating_point() else t for name, t in trained.items()}
    )
    assert isinstance(splits.val, PreparedImages)
    accuracy = top1(half, splits.val.images, splits.crop)
    made = {
        "method": run.method,
        "seed": run.seed,
        "model": {"name": "fractal_resnet", "num_classes": classes},
    }
    made |= {
        "data": {f.name: recipe["data"][f.name] for f in fields(FractalDataConfig)},
        "optim": recipe["optim"],
    }
    facts = {
        "recipe": json.dumps(made),
        "seed": str(run.seed),
        "commit": source_commit(),
        "torch": torch.__version__,
    }
    facts |= {
        "classes": str(classes),
        "seconds": f"{seconds:.0f}",
        "val_accuracy": f"{accuracy:.4f}",
        "crop": str(splits.crop),
    }
    with atomic_write(folder / ASSET) as temporary:
        save_image_model(half, temporary, facts)
