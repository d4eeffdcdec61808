"""What training an image network is made of. A recipe's YAML is these dataclasses, field by field."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from pointlift.methods.image_pretraining.module import FractalDataConfig

__all__ = ["ImageDataConfig", "ImageModelConfig", "ImageViewConfig"]

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
        if self.limit_per_class is not None and self.limit_per_class < 1:
            raise ValueError(
                f"data: limit_per_class is {self.limit_per_class}, expected at least 1, "
                "or null for all pictures."
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
