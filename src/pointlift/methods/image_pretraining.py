"""Pre-training of an image classifier, as FractalDB does it (Kataoka et al., ACCV 2020, section 4; facts 6.3).

SGD with momentum on cross-entropy, random crops, mean .2 and std .5. It makes the embedded image network, without any photograph:
``fit_image_pretraining`` searches fractal categories, renders them, trains and writes the weights.
"""

from __future__ import annotations

import inspect
import json
import math
import subprocess
import time
from collections.abc import Iterator, Sequence, Sized
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from pointlift.data.atomic import atomic_write
from pointlift.data.procedural.fractal_images import FractalImages
from pointlift.data.procedural.fractals import FractalCategory, search_categories
from pointlift.models.fractal_resnet import ASSET, IMAGE_MEAN, IMAGE_STD, fractal_resnet

Schedule = Literal["cosine", "step", "constant"]
ImageDataset = Dataset[tuple[Tensor, int]]

# The published density, 1.5 points per pixel with 3x3 patches, was chosen for 362 pixels; small pictures become filled blobs with it.
_POINTS_PER_PIXEL = 0.5
# Between the code's default 0.1 and the scripts' 0.4, which asks for longer training than the embedded network gets.
_WEIGHT_TABLE = 0.2


@dataclass(frozen=True)
class ImageModelConfig:
    """The network: ``name`` (only ``fractal_resnet`` ships) and ``num_classes``, by default the number of categories."""

    name: str = "fractal_resnet"
    num_classes: int | None = None


@dataclass(frozen=True)
class FractalDataConfig:
    """Fractal pictures: how many categories, training and held-out pictures of each, side in pixels, and the seed of all of them.

    The network sees crops of 7/8 of the side. Held-out pictures share neither patch patterns nor trajectories with training pictures.
    """

    categories: int = 100
    instances_per_class: int = 200
    image_size: int = 64
    seed: int = 1
    val_instances: int = 25


@dataclass(frozen=True)
class ImageOptimConfig:
    """SGD. ``schedule``: one ``cosine`` over the run, ``step`` (a tenth after 1/3 and again after 2/3; facts 6.3) or ``constant``."""

    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    epochs: int = 90
    batch_size: int = 256
    schedule: Schedule = "cosine"
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.lr <= 0 or self.epochs < 1 or self.batch_size < 2 or not 0 <= self.label_smoothing < 1:
            raise ValueError(
                f"image pre-training: got lr={self.lr}, epochs={self.epochs}, batch_size={self.batch_size}, "
                f"label_smoothing={self.label_smoothing}; expected lr > 0, epochs >= 1, batch_size >= 2 and 0 <= label_smoothing < 1."
            )
        if self.schedule not in ("cosine", "step", "constant"):
            raise ValueError(f"image pre-training: got schedule={self.schedule!r}, expected cosine, step or constant.")

    def factor(self, progress: float) -> float:
        """What the learning rate is multiplied by when the share ``progress`` of the run, 0..1, is done."""
        if self.schedule == "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
        return 0.1 ** math.floor(3 * progress + 1e-6) if self.schedule == "step" else 1.0


@dataclass(frozen=True)
class ImageFitResult:
    """What a run reached: ``val_accuracy`` is top-1 (0..1) on the held-out pictures after the last epoch; ``seconds`` of training."""

    train_loss: float
    val_loss: float
    val_accuracy: float
    epochs: int
    seconds: float


def augment(images: Tensor, crop: int, generator: torch.Generator, flip: bool = True) -> Tensor:
    """``(B, C, H, W)`` -> ``(B, C, crop, crop)``: a random window and, with ``flip``, a random one of four flips per picture.

    Any dtype and device; the random numbers come from ``generator``, a CPU generator. ``ValueError`` for a crop larger than the picture.
    """
    batch, _, height, width = images.shape
    rows, columns = (_windows(batch, side, crop, generator, flip).to(images.device) for side in (height, width))
    pictures = torch.arange(batch, device=images.device)
    return images.permute(0, 2, 3, 1)[pictures[:, None, None], rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


def _windows(batch: int, side: int, crop: int, generator: torch.Generator, flip: bool) -> Tensor:
    if not 1 <= crop <= side:
        raise ValueError(f"augment: got a crop of {crop} for pictures of {side} pixels, expected 1..{side}.")
    window = torch.randint(side - crop + 1, (batch, 1), generator=generator) + torch.arange(crop)
    if not flip:
        return window
    return torch.where(torch.rand(batch, 1, generator=generator) < 0.5, window, window.flip(1))


def center_crop(images: Tensor, crop: int) -> Tensor:
    """The middle ``crop`` x crop pixels of ``(B, C, H, W)``; ``ValueError`` if the crop is larger than the picture."""
    height, width = images.shape[-2:]
    if not 1 <= crop <= min(height, width):
        raise ValueError(f"center_crop: got a crop of {crop} for pictures of {height} x {width} pixels.")
    top, left = (height - crop) // 2, (width - crop) // 2
    return images[..., top : top + crop, left : left + crop]


def normalise(images: Tensor) -> Tensor:
    """``(B, 1 or 3, H, W) uint8`` -> ``(B, 3, H, W) float32``: grey replicated, mean .2 and std .5, channels last in memory."""
    images = ((images.float() / 255.0 - IMAGE_MEAN) / IMAGE_STD).expand(-1, 3, -1, -1)
    return images.contiguous(memory_format=torch.channels_last)


class ImageClassifier(lightning.LightningModule):
    """Trains ``model`` on batches of ``(images (B, C, H, W) uint8, labels (B,))`` by the rules of ``optim``.

    ``crop`` None keeps the whole picture. Augmentation is a function of ``seed``, the step and the rank alone, so that a resumed run
    sees the pictures that an uninterrupted one would have seen.
    """

    def __init__(self, model: nn.Module, optim: ImageOptimConfig, crop: int | None = None, flip: bool = True, seed: int = 0) -> None:
        super().__init__()
        self.model = model
        self.optim = optim
        self.crop = crop
        self.flip = flip
        self.seed = seed
        self.loss = nn.CrossEntropyLoss(label_smoothing=optim.label_smoothing)

    def forward(self, images: Tensor) -> Tensor:
        return self.model(normalise(images))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        images, labels = batch
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.global_step) * 4096 + self.global_rank)
        images = augment(images, self.crop or images.shape[-1], generator, self.flip)
        loss: Tensor = self.loss(self(images).float(), labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(labels))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        images, labels = batch
        logits = self(images if self.crop is None else center_crop(images, self.crop)).float()
        accuracy = (logits.argmax(1) == labels).float().mean()
        values = {"val_loss": nn.functional.cross_entropy(logits, labels), "val_accuracy": accuracy}
        self.log_dict(values, on_epoch=True, prog_bar=True, sync_dist=True, batch_size=len(labels))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = torch.optim.SGD(self.model.parameters(), self.optim.lr, self.optim.momentum, weight_decay=self.optim.weight_decay)
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.optim.factor(step / steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class EpochSampler(Sampler[int]):
    """A new order each epoch, from ``seed`` and the epoch alone; Lightning calls ``set_epoch``, also when a run is resumed."""

    def __init__(self, data: Sized, seed: int) -> None:
        self.length, self.seed, self.epoch = len(data), seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return iter(torch.randperm(self.length, generator=generator).tolist())


def fit_image_model(
    model: nn.Module,
    train_data: ImageDataset,
    val_data: ImageDataset,
    optim: ImageOptimConfig,
    out: str | Path,
    *,
    crop: int | None = None,
    flip: bool = True,
    seed: int = 0,
    resume: str | Path | None = None,
    trainer_options: dict[str, Any] | None = None,
) -> ImageFitResult:
    """Trains ``model`` in place; metrics go to ``out/logs/version_<n>/metrics.csv``, the newest state to ``out/last.ckpt``.

    train_data, val_data    map-style datasets of ``(image (C, H, W) uint8, class index)``
    crop, flip              see ``ImageClassifier``
    resume                  a ``last.ckpt`` to go on from
    trainer_options         arguments of ``lightning.Trainer`` (accelerator, devices, strategy, precision, callbacks, ...)
    ``ValueError`` if there are fewer training pictures than two; ``FileNotFoundError`` if ``resume`` does not exist.
    """
    assert isinstance(train_data, Sized) and isinstance(val_data, Sized)
    if len(train_data) < 2 or len(val_data) < 1:
        raise ValueError(f"image pre-training: got {len(train_data)} training and {len(val_data)} held-out pictures, expected 2 and 1.")
    if resume is not None and not Path(resume).is_file():
        raise FileNotFoundError(f"{resume}: no such checkpoint to resume from.")
    batch_size = min(optim.batch_size, len(train_data))
    train = DataLoader(train_data, batch_size, sampler=EpochSampler(train_data, seed), drop_last=True)
    val = DataLoader(val_data, 2 * batch_size)
    options: dict[str, Any] = {"logger": CSVLogger(out, name="logs"), "num_sanity_val_steps": 0, "log_every_n_steps": min(50, len(train))}
    options |= trainer_options or {}
    checkpoint = ModelCheckpoint(dirpath=out, save_top_k=0, save_last=True)
    options["callbacks"] = [*options.get("callbacks", []), checkpoint]
    trainer = lightning.Trainer(max_epochs=optim.epochs, **options)
    classifier = ImageClassifier(model.to(memory_format=torch.channels_last), optim, crop, flip, seed)
    start = time.perf_counter()
    try:
        trainer.fit(classifier, train, val, ckpt_path=resume)
    except SystemExit:
        if not trainer.interrupted:
            raise
        # Lightning ends the process on Ctrl-C; the caller is to say how to go on
        raise KeyboardInterrupt(f"interrupted: go on with --resume (the checkpoint in {out} is from the last finished epoch)") from None
    seconds = time.perf_counter() - start
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return ImageFitResult(metrics["train_loss"], metrics["val_loss"], metrics["val_accuracy"], trainer.current_epoch, seconds)


@torch.inference_mode()
def top1(model: nn.Module, data: ImageDataset, crop: int | None = None, batch_size: int = 512) -> float:
    """Share (0..1) of ``data`` that ``model`` classifies correctly in float32 on its own device, from centre crops."""
    device = next(model.parameters()).device
    model.eval()
    correct = total = 0
    for images, labels in DataLoader(data, batch_size):
        logits = model(normalise((images if crop is None else center_crop(images, crop)).to(device)))
        correct += int((logits.argmax(1).cpu() == labels).sum())
        total += len(labels)
    return correct / total


def save_image_model(model: nn.Module, path: str | Path, metadata: dict[str, str]) -> None:
    """Writes the state dict as safetensors, floating-point tensors in float16, with ``metadata``; the file appears whole or not at all."""
    state = {
        name: (tensor.detach().cpu().half() if tensor.is_floating_point() else tensor.detach().cpu()).contiguous()
        for name, tensor in model.state_dict().items()
    }
    with atomic_write(path) as temporary:
        temporary.write_bytes(save(state, metadata))


def fractal_pictures(data: FractalDataConfig, categories: Sequence[FractalCategory], split: Literal["train", "val"]) -> FractalImages:
    """The training or the held-out pictures of ``categories``, in memory: grey patches, weights 0.2, a trajectory for each picture.

    ``ValueError`` if a number of pictures is not positive.
    """
    count, first = data.instances_per_class, 0
    if split == "val":
        count, first = data.val_instances, math.ceil(data.instances_per_class / 100) * 100
    points = max(100, round(_POINTS_PER_PIXEL * data.image_size**2))
    return FractalImages(
        categories, count, data.image_size, w=_WEIGHT_TABLE, first_instance=first, iterations=points, trajectory="instance", seed=data.seed
    )


def fit_image_pretraining(
    model: ImageModelConfig,
    data: FractalDataConfig,
    optim: ImageOptimConfig,
    seed: int = 0,
    out: str | Path = "runs/fractal",
    trainer_options: dict[str, Any] | None = None,
    resume: str | Path | None = None,
) -> ImageFitResult:
    """Makes an embedded image network from nothing but seeds: writes ``out/fractal_resnet.safetensors`` and ``out/result.json``.

    The accuracy in the file's metadata and in the result is that of the float16 weights as written, in float32 arithmetic, after the last
    epoch. Raises ``ValueError`` for an unknown network or a number of classes other than the categories.
    """
    if model.name != "fractal_resnet":
        raise ValueError(f"image pre-training: got model {model.name!r}, expected 'fractal_resnet'.")
    classes = data.categories if model.num_classes is None else model.num_classes
    if classes != data.categories:
        raise ValueError(f"image pre-training: got num_classes={classes} for {data.categories} categories, expected as many.")
    commit = _commit()
    network = fractal_resnet(num_classes=classes, generator=torch.Generator().manual_seed(seed))
    categories = search_categories(data.categories, data.seed)
    train, val = fractal_pictures(data, categories, "train"), fractal_pictures(data, categories, "val")
    crop = data.image_size * 7 // 8
    fit = fit_image_model(network, train, val, optim, out, crop=crop, seed=seed, resume=resume, trainer_options=trainer_options)
    network = network.cpu()
    network.load_state_dict({name: t.half().float() if t.is_floating_point() else t for name, t in network.state_dict().items()})
    result = ImageFitResult(fit.train_loss, fit.val_loss, top1(network, val, crop), fit.epochs, fit.seconds)
    recipe = {"method": "image_pretraining", "seed": seed, "model": {"name": model.name, "num_classes": classes}, "data": asdict(data)}
    recipe |= {"optim": asdict(optim)}
    facts = {"recipe": json.dumps(recipe), "seed": str(seed), "commit": commit, "torch": torch.__version__, "classes": str(classes)}
    facts |= {"seconds": f"{result.seconds:.0f}", "val_accuracy": f"{result.val_accuracy:.4f}", "crop": str(crop)}
    save_image_model(network, Path(out) / ASSET, facts)
    with atomic_write(Path(out) / "result.json") as temporary:
        temporary.write_text(json.dumps(facts | {"recipe": recipe} | asdict(result), indent=2) + "\n")
    return result


def _commit() -> str:
    """The commit of the source tree, ``+changes`` if the code of this pre-training differs from it; ``unknown`` for an installed copy."""
    sources = [inspect.getfile(part) for part in (ImageClassifier, FractalImages, search_categories, fractal_resnet)]
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changes = subprocess.run([*git, "status", "--porcelain", "--", *sources], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if changes.strip() else "")
