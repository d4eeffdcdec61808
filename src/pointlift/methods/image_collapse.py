"""`method: image_collapse` of a recipe: how far an image network's classes have collapsed on the pictures it was trained on.

The CDNV of the penultimate features on the training and the validation pictures (Image2Point v2, appendix B.5 and table 11, ImageNet1K).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pointlift.data.errors import worker_errors
from pointlift.data.images.crops import CenterCrop, CroppedImages, ImageOrder
from pointlift.data.images.image_set import ImageSet
from pointlift.data.images.open import open_images
from pointlift.evaluate.class_moments import ClassMoments
from pointlift.evaluate.collapse import CDNVResult
from pointlift.methods.image_pretraining.module import normalise
from pointlift.models import image_network
from pointlift.runs.folder import RunFolder, RunFolderError
from pointlift.system.environment import environment
from pointlift.teachers.image_features import penultimate
from pointlift.teachers.statistics import image_statistics
from pointlift.weights.image_weights import load_image_weights

__all__ = [
    "CollapseDataConfig",
    "CollapseModelConfig",
    "CollapseResult",
    "measure_image_collapse",
    "penultimate",
]

SPLITS: tuple[Literal["train", "val"], ...] = ("train", "val")


@dataclass(frozen=True)
class CollapseModelConfig:
    """The image network and its weights.

    Attributes:
        image_model: a timm name, "torchvision:NAME", "fractal_resnet", "pointcontrast_resnet34" or "path/to/net.py:function" (your own).
        pretrained: take the weights that belong to the name. weights: a file of weights to load instead.
        weights_may_differ: modules that `weights` may lack or hold in another shape; the classifier plays no part, so ["fc"] is fine.
        image_options: keyword arguments of what makes the network.
        classifier: dotted name of the last linear map, whose input is measured; null finds it.
    """

    image_model: str = "resnet50.tv_in1k"
    pretrained: bool = True
    weights: str | None = None
    weights_may_differ: list[str] | None = None
    image_options: dict[str, Any] | None = None
    classifier: str | None = None


@dataclass(frozen=True)
class CollapseDataConfig:
    """The pictures, each seen once, in its middle; also those for training.

    Attributes:
        source: see `pointlift.data.images.open.open_images`.
        limit_per_class: at most so many pictures of a class and split, drawn from the run's seed; null takes all.
        size, resize: side of the central window in pixels, and of the shorter side before (null: as it is).
        mean, std: of the three channels, pixels in 0-1; null takes what the weights were trained with, where their file (written by
            image_pretraining) or the network (timm's, the embedded one) says so, and ImageNet's otherwise.
        batch_size, num_workers: results do not depend on the number of workers.
    """

    source: str = "imagenet:data/imagenet"
    limit_per_class: int | None = None
    size: int = 224
    resize: int | None = 256
    mean: list[float] | None = None
    std: list[float] | None = None
    batch_size: int = 256
    num_workers: int = 0

    def __post_init__(self) -> None:
        if self.size < 1 or (self.resize is not None and self.resize < self.size):
            raise ValueError(f"data: size is {self.size} and resize {self.resize}, expected a size of 1 or more and resize no smaller.")
        if self.batch_size < 1 or self.num_workers < 0 or (self.limit_per_class is not None and self.limit_per_class < 2):
            raise ValueError(
                f"data: batch_size is {self.batch_size}, num_workers {self.num_workers}, limit_per_class {self.limit_per_class}; expected "
                "at least 1, 0 and 2 (a single picture has no variance)."
            )
        for name, value in (("mean", self.mean), ("std", self.std)):
            if value is not None and (len(value) != 3 or (name == "std" and min(value) <= 0)):
                raise ValueError(f"data: {name} is {value}, expected three numbers{', above 0' if name == 'std' else ''}, or null.")


@dataclass(frozen=True)
class CollapseRunConfig:
    """device: "cpu", "cuda", "cuda:1", ... or "auto". save_every: batches between two notes of where the run is, for --resume."""

    device: str = "auto"
    save_every: int = 100

    def __post_init__(self) -> None:
        if self.save_every < 1:
            raise ValueError(f"run: save_every is {self.save_every}, expected at least 1.")

    def place(self) -> torch.device:
        """The device. Raises ValueError for one that does not exist."""
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            return torch.empty(0, device=self.device).device
        except (RuntimeError, AssertionError) as error:
            reason = str(error).strip().split("\n")[0]
            raise ValueError(f"run: device is {self.device!r}, which cannot be used here ({reason}); use auto or cpu.") from None


@dataclass(frozen=True)
class CollapseResult:
    """What was measured.

    Attributes:
        metrics: cdnv_train, cdnv_val; null in the file where two classes have the very same mean.
        pictures, classes_used: of each split. seconds: over all resumptions.
    """

    metrics: dict[str, float | None]
    pictures: dict[str, int]
    classes_used: dict[str, int]
    seconds: float

    @staticmethod
    def read(folder: str | Path) -> CollapseResult:
        """The result of a finished run. Raises FileNotFoundError where there is none, RunFolderError for a damaged file."""
        path = Path(folder) / "result.json"
        if not path.is_file():
            raise FileNotFoundError(f"No finished run in {folder} (no result.json).")
        try:
            return CollapseResult(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise RunFolderError(f"{path} is damaged ({type(error).__name__}): delete it and go on with --resume.") from None


_MODEL, _DATA, _RUN = CollapseModelConfig(), CollapseDataConfig(), CollapseRunConfig()


def measure_image_collapse(
    model: CollapseModelConfig = _MODEL,
    data: CollapseDataConfig = _DATA,
    run: CollapseRunConfig = _RUN,
    seed: int = 0,
    out: str | Path = "runs/image_collapse",
    resume: bool = False,
) -> CollapseResult:
    """CDNV of an image network's penultimate features on both splits of an image source; result.json in `out` has cdnv_train, cdnv_val.

    Pictures stream through: memory is classes x features, so that all of ImageNet fits. With `resume` the run in `out` goes on behind the
    last batch it noted and ends with the same numbers. seed: of `data.limit_per_class` only.

    Raises ValueError for networks and settings that do not fit, DataError for what is wrong with the pictures, and as
    `fit_image_network` for the folder.
    """
    recipe = {"method": "image_collapse", "model": asdict(model), "data": asdict(data), "run": asdict(run), "seed": seed}
    if seed < 0:
        raise ValueError(f"seed is {seed}, expected 0 or more.")
    folder = RunFolder(out)
    folder.check(recipe, resume)
    if resume and folder.result.is_file():
        print(f"The run in {folder.path} is already complete.")
        return CollapseResult.read(folder.path)
    progress = _read_progress(folder) if resume else _Progress()
    pictures = [open_images(data.source, split) for split in SPLITS]
    if data.limit_per_class is not None:
        pictures = [images.limited(data.limit_per_class, seed) for images in pictures]
    network = _network(model).eval().to(run.place())
    name, classifier = penultimate(network, model.classifier)
    known = image_statistics(network, model.weights)
    mean, std = data.mean or known[0], data.std or known[1]
    described = [{"source": p.name, "pictures": len(p), "classes": len(p.classes)} for p in pictures]
    facts = {"data": described, "features": f"input of {name}", "view": "central", "mean": mean, "std": std}
    folder.start(recipe, {"recipe": recipe, **facts, "environment": environment()})
    results: dict[str, CDNVResult] = {}
    for split, images in zip(SPLITS, pictures):
        with worker_errors(), _seen(classifier) as seen:
            moments = _embed(network, seen, images, split, data, run, (mean, std), progress, folder)
        results[split] = moments.cdnv()
        print(f"{split}: {results[split].explain(images.classes)}")
    return _finish(results, progress, folder)


@dataclass
class _Progress:
    """Where a run is: moments of every split so far, batches done of it, and seconds spent."""

    moments: dict[str, ClassMoments] = field(default_factory=dict)
    batches: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def save(self, folder: RunFolder) -> None:
        state = {split: {k: torch.from_numpy(v) for k, v in m.state().items()} for split, m in self.moments.items()}
        with folder.writing(folder.last.name) as temporary:
            torch.save({"moments": state, "batches": self.batches, "seconds": self.seconds}, temporary)


def _read_progress(folder: RunFolder) -> _Progress:
    try:
        stored = torch.load(folder.last, map_location="cpu", weights_only=True)
        moments = {split: ClassMoments.restore({k: v.numpy() for k, v in state.items()}) for split, state in stored["moments"].items()}
        return _Progress(moments, dict(stored["batches"]), float(stored["seconds"]))
    except Exception as error:  # whatever a damaged archive makes torch, pickle or zipfile raise
        raise RunFolderError(f"{folder.last} is damaged ({type(error).__name__}): start again in another folder.") from None


@torch.inference_mode()
def _embed(
    network: nn.Module,
    seen: list[Tensor],
    images: ImageSet,
    split: str,
    data: CollapseDataConfig,
    run: CollapseRunConfig,
    statistics: tuple[list[float], list[float]],
    progress: _Progress,
    folder: RunFolder,
) -> ClassMoments:
    """Moments of a split's features; batches that `progress` knows already are left out."""
    place = run.place()
    mean, std = (torch.tensor(s, device=place).reshape(1, 3, 1, 1) for s in statistics)
    done = progress.batches.get(split, 0)
    order = ImageOrder(len(images), shuffle=False)
    order.skip = done * data.batch_size
    views = CroppedImages(images, CenterCrop(data.size, data.resize))
    generator = torch.Generator().manual_seed(0)  # of worker seeds; nothing is drawn from it
    loader = DataLoader(views, data.batch_size, sampler=order, num_workers=data.num_workers, generator=generator)
    started = time.perf_counter()
    for pixels, labels in loader:
        network(normalise(pixels.to(place), mean, std))
        if len(seen) != 1:
            raise ValueError(f"the classifier ran {len(seen)} times on one batch, expected once: name another one (model.classifier).")
        features = seen.pop()
        features = features.flatten(2).mean(2) if features.ndim == 4 else features
        if features.ndim != 2:
            shape = tuple(features.shape)
            raise ValueError(
                f"the classifier takes features of shape {shape}, expected one vector per picture: name another (model.classifier)."
            )
        if split not in progress.moments:
            progress.moments[split] = ClassMoments(len(images.classes), features.shape[1])
        progress.moments[split].update(features.float(), labels)
        done += 1
        progress.batches[split] = done
        if done % run.save_every == 0:
            now = time.perf_counter()
            progress.seconds, started = progress.seconds + now - started, now
            progress.save(folder)
    progress.seconds += time.perf_counter() - started
    progress.save(folder)
    return progress.moments[split]


@contextmanager
def _seen(classifier: nn.Module) -> Iterator[list[Tensor]]:
    """What the classifier is given, while the block runs."""
    inputs: list[Tensor] = []
    hook = classifier.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    try:
        yield inputs
    finally:
        hook.remove()


def _network(model: CollapseModelConfig) -> nn.Module:
    if model.weights is None:
        return image_network(model.image_model, model.pretrained, model.image_options)
    network = image_network(model.image_model, False, model.image_options)
    print(load_image_weights(model.weights, network, tuple(model.weights_may_differ or ())).render())
    return network


def _finish(results: dict[str, CDNVResult], progress: _Progress, folder: RunFolder) -> CollapseResult:
    values = {split: result.mean for split, result in results.items()}
    metrics = {f"cdnv_{split}": value if value != float("inf") else None for split, value in values.items()}
    used = {split: len(result.counts) - len(result.excluded) for split, result in results.items()}
    pictures = {split: int(result.counts.sum()) for split, result in results.items()}
    result = CollapseResult(metrics, pictures, used, progress.seconds)
    folder.write_rows([{"split": s, "cdnv": values[s], "pictures": pictures[s], "classes": used[s]} for s in results])
    folder.write_json("result.json", asdict(result))
    return result
