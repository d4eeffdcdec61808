"""`method: image_collapse` of a recipe: how far an image network's classes have collapsed on the pictures it
was trained on.

The CDNV of the penultimate features on the training and the validation pictures (Image2Point v2,
appendix B.5 and table 11, ImageNet1K).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pointlift.data.errors import worker_errors
from pointlift.data.images.crops import CenterCrop, CroppedImages, ImageOrder
from pointlift.data.images.image_set import ImageSet
from pointlift.data.images.open import open_images
from pointlift.evaluate.collapse import CDNVResult, ClassMoments
from pointlift.methods.base import Experiment, Measured, Measurement, Place
from pointlift.methods.image_pretraining.module import normalise
from pointlift.models.config import ModelConfig
from pointlift.teachers.image_features import penultimate
from pointlift.teachers.statistics import image_statistics
from pointlift.weights.network import load_image_network

__all__ = ["CollapseDataConfig", "CollapseModelConfig", "ImageCollapse"]

Note = Callable[[dict[str, Any]], None]

SPLITS: tuple[Literal["train", "val"], ...] = ("train", "val")


@dataclass(frozen=True)
class CollapseModelConfig:
    """The image network and its weights.

    Attributes:
        image_model: a timm name, "torchvision:NAME", "fractal_resnet", "pointcontrast_resnet34" or
            "path/to/net.py:function" (your own).
        pretrained: take the weights that belong to the name. weights: a file of weights to load instead.
        weights_may_differ: modules that `weights` may lack or hold in another shape;
            the classifier plays no part, so ["fc"] is fine.
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
        limit_per_class: at most so many pictures of a class and split, drawn from the run's seed;
            null takes all.
        size, resize: side of the central window in pixels, and of the shorter side before (null: as it is).
        mean, std: of the three channels, pixels in 0-1; null takes what the weights were trained with, where
            their file (written by image_pretraining) or the network (timm's, the embedded one) says so, and
            ImageNet's otherwise.
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
            raise ValueError(
                f"data: size is {self.size} and resize {self.resize}, "
                "expected a size of 1 or more and resize no smaller."
            )
        if (
            self.batch_size < 1
            or self.num_workers < 0
            or (self.limit_per_class is not None and self.limit_per_class < 2)
        ):
            raise ValueError(
                f"data: batch_size is {self.batch_size}, num_workers {self.num_workers}, limit_per_class "
                f"{self.limit_per_class}; expected at least 1, 0 and 2 (a single picture has no variance)."
            )
        for name, value in (("mean", self.mean), ("std", self.std)):
            if value is not None and (len(value) != 3 or (name == "std" and min(value) <= 0)):
                raise ValueError(
                    f"data: {name} is {value}, expected three numbers{', above 0' if name == 'std' else ''}, "
                    "or null."
                )


@dataclass(frozen=True)
class CollapseRunConfig:
    """Where it runs.

    Attributes:
        device: "cpu", "cuda", "cuda:1", ... or "auto".
        save_every: batches between two notes of where the run is, for --resume.
    """

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
            raise ValueError(
                f"run: device is {self.device!r}, which cannot be used here ({reason}); use auto or cpu."
            ) from None


@dataclass(frozen=True)
class ImageCollapse(Experiment):
    """CDNV of an image network's penultimate features on both splits of an image source:
    cdnv_train, cdnv_val.

    Pictures stream through: memory is classes x features, so that all of ImageNet fits. With `resume` a run
    goes on behind the last batch it noted and ends with the same numbers. seed: of `data.limit_per_class`
    only. A number is null where two classes have the very same mean.
    """

    method: ClassVar[str] = "image_collapse"
    out: ClassVar[str] = "runs/image_collapse"

    model: CollapseModelConfig = CollapseModelConfig()
    data: CollapseDataConfig = CollapseDataConfig()
    run: CollapseRunConfig = CollapseRunConfig()
    seed: int = 0

    def build(self, place: Place) -> Measurement:
        """Raises ValueError for networks and settings that do not fit,
        DataError for what is wrong with the pictures.
        """
        pictures = [open_images(self.data.source, split) for split in SPLITS]
        if self.data.limit_per_class is not None:
            pictures = [images.limited(self.data.limit_per_class, self.seed) for images in pictures]
        network = _network(self.model).eval().to(self.run.place())
        name, classifier = penultimate(network, self.model.classifier)
        known = image_statistics(network, self.model.weights)
        mean, std = self.data.mean or known[0], self.data.std or known[1]

        def work(state: dict[str, Any] | None, note: Note) -> Measured:
            progress = _Progress() if state is None else _Progress.restore(state)
            results: dict[str, CDNVResult] = {}
            for split, images in zip(SPLITS, pictures):
                with worker_errors(), _seen(classifier) as seen:
                    moments = _embed(
                        network, seen, images, split, self.data, self.run, (mean, std), progress, note
                    )
                results[split] = moments.cdnv()
                print(f"{split}: {results[split].explain(images.classes)}")
            return _measured(results, progress)

        described = [{"source": p.name, "pictures": len(p), "classes": len(p.classes)} for p in pictures]
        facts = {
            "data": described,
            "features": f"input of {name}",
            "view": "central",
            "mean": mean,
            "std": std,
        }
        return Measurement(work, facts)

    def summary(self, result: Any) -> str:
        return (
            ", ".join(f"{name} {value}" for name, value in result.metrics.items())
            + f"; {result.seconds:.0f} s"
        )


@dataclass
class _Progress:
    """Where a run is: moments of every split so far, batches done of it, and seconds spent."""

    moments: dict[str, ClassMoments] = field(default_factory=dict)
    batches: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def state(self) -> dict[str, Any]:
        """As it is noted for --resume."""
        moments = {
            split: {k: torch.from_numpy(v) for k, v in m.state().items()} for split, m in self.moments.items()
        }
        return {"moments": moments, "batches": self.batches, "seconds": self.seconds}

    @staticmethod
    def restore(state: dict[str, Any]) -> _Progress:
        """What `state` noted."""
        moments = {
            s: ClassMoments.restore({k: v.numpy() for k, v in m.items()}) for s, m in state["moments"].items()
        }
        return _Progress(moments, dict(state["batches"]), float(state["seconds"]))


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
    note: Note,
) -> ClassMoments:
    """Moments of a split's features; batches that `progress` knows already are left out."""
    place = run.place()
    mean, std = (torch.tensor(s, device=place).reshape(1, 3, 1, 1) for s in statistics)
    done = progress.batches.get(split, 0)
    order = ImageOrder(len(images), shuffle=False)
    order.skip = done * data.batch_size
    views = CroppedImages(images, CenterCrop(data.size, data.resize))
    generator = torch.Generator().manual_seed(0)  # of worker seeds; nothing is drawn from it
    loader = DataLoader(
        views, data.batch_size, sampler=order, num_workers=data.num_workers, generator=generator
    )
    started = time.perf_counter()
    for pixels, labels in loader:
        network(normalise(pixels.to(place), mean, std))
        if len(seen) != 1:
            raise ValueError(
                f"the classifier ran {len(seen)} times on one batch, expected once: "
                "name another one (model.classifier)."
            )
        features = seen.pop()
        features = features.flatten(2).mean(2) if features.ndim == 4 else features
        if features.ndim != 2:
            shape = tuple(features.shape)
            raise ValueError(
                f"the classifier takes features of shape {shape}, expected one vector per picture: name "
                "another (model.classifier)."
            )
        if split not in progress.moments:
            progress.moments[split] = ClassMoments(len(images.classes), features.shape[1])
        progress.moments[split].update(features.float(), labels)
        done += 1
        progress.batches[split] = done
        if done % run.save_every == 0:
            now = time.perf_counter()
            progress.seconds, started = progress.seconds + now - started, now
            note(progress.state())
    progress.seconds += time.perf_counter() - started
    note(progress.state())
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
    shared = ("image_model", "image_options", "weights", "weights_may_differ")
    return load_image_network(
        ModelConfig(**{name: getattr(model, name) for name in shared}), model.pretrained
    )


def _measured(results: dict[str, CDNVResult], progress: _Progress) -> Measured:
    values = {split: result.mean for split, result in results.items()}
    metrics = {f"cdnv_{split}": value if value != float("inf") else None for split, value in values.items()}
    used = {split: len(result.counts) - len(result.excluded) for split, result in results.items()}
    pictures = {split: int(result.counts.sum()) for split, result in results.items()}
    rows = [{"split": s, "cdnv": values[s], "pictures": pictures[s], "classes": used[s]} for s in results]
    return Measured(metrics, rows, progress.seconds, {"pictures": pictures, "classes_used": used})
