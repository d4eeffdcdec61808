"""The image network of PointCMT: one image model looks at every view of an object,
and the views are pooled (MVCNN).

F_img = max over views of trunk(view), logits = Linear(F_img)
    PointCMT section 4.1 "following MVCNN", equation 3
F_img = fusion of trunk(view 1), ..., trunk(view V), logits = Linear(F_img)
    SimpleView, whose structure section 4.2 follows for projected views (facts 5.6)

ResNet-18 and 40 classes: 512 numbers of an object, 11,197,032 parameters (facts 4.3). SimpleView's trunk of
width 16 with its fusion to 128 numbers: its own 803,992.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from pointlift.models.points.simpleview import SimpleView, ViewFusion, check_sizes
from pointlift.teachers.image_features import without_classifier

__all__ = ["SimpleViewBackbone", "ViewNetwork", "ViewPooling"]

ViewPooling = Literal["max", "mean", "fusion"]


class ViewNetwork(nn.Module):
    """(B, V, 3, H, W) pictures with values in 0-1 -> (B, num_classes) logits;
    any number of views, the same for all objects of a batch.

    image_model: a network from (B, 3, H, W), or (B, 1, H, W), to logits, of which a copy without its
        classifier becomes `trunk`. A network of one channel sees the mean of the three.
    pooling: over the views: "max" (the paper and MVCNN), "mean", or "fusion", SimpleView's, which joins
        the features of a fixed number of `views` in their order (`ViewFusion`).
    width: None, the paper's, keeps the image model's features, whose width D then has to be the student's
        (512 for ResNet-18). A number puts Linear + ReLU behind the view pooling, so that a network of another
        width can teach: with it `embed` is (B, width), and not below 0, as pooled ResNet features are. The
        fusion ends in a layer of its own, as wide as `width` or, with None, as the features of one view.
    views: of every object, which a fusion needs to know.
    mean, std: of the channels, which the network normalises its pictures with;
        None for ImageNet's, and nothing for one channel.
    image_size: of the pictures that it is tried on here, height and width;
        others are fine where the image model can take them.
    classifier: dotted name of the image model's own classifier, "none" if it has none;
        None finds it (`without_classifier`).
    seed: from which the new layers are drawn.

    What the image model never trains (requires_grad False) stays frozen, unless all of it is.
    arguments: JSON-able keyword arguments.
    embed_dim: D. Raises ValueError for options outside their range, and for an image model that cannot take
    such pictures or does not make one vector of each.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        image_model: nn.Module,
        num_classes: int = 40,
        pooling: ViewPooling = "max",
        width: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        image_size: int = 224,
        classifier: str | None = None,
        seed: int = 0,
        views: int | None = None,
    ) -> None:
        super().__init__()
        _check(num_classes, pooling, width, mean, std, image_size, views)
        trunk = without_classifier(image_model, classifier).float()
        if not any(p.requires_grad for p in trunk.parameters()):
            trunk.requires_grad_(True)  # frozen to be used as it is, not because its weights are constants
        self.trunk = trunk
        self.in_channels = _channels(trunk)
        self.pooling = pooling
        plain = self.in_channels == 1
        mean, std = (
            mean or ((0.0,) if plain else (0.485, 0.456, 0.406)),
            std or ((1.0,) if plain else (0.229, 0.224, 0.225)),
        )
        if {len(mean), len(std)} - {1, self.in_channels}:
            raise ValueError(
                f"ViewNetwork: mean is {list(mean)} and std {list(std)}, "
                f"expected {self.in_channels} numbers each."
            )
        self.register_buffer("mean", torch.tensor(list(mean)).reshape(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).reshape(1, -1, 1, 1), persistent=False)
        features = self._trial(image_size)
        self.arguments: dict[str, Any] = {
            "num_classes": num_classes, "pooling": pooling, "width": width, "mean": list(mean),
            "std": list(std), "image_size": image_size, "classifier": classifier, "seed": seed,
        }  # fmt: skip
        if pooling == "fusion":
            self.arguments["views"] = views
        self.embed_dim = width or features
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.projection = _projection(features, width, views if pooling == "fusion" else None)
            self.classifier = nn.Linear(self.embed_dim, num_classes)
        self.to(next(image_model.parameters()).device)

    def embed(self, images: Tensor) -> Tensor:
        """(B, D): the pooled features of (B, V, 3, H, W) pictures, what the classifier sees.

        Raises ValueError for another shape, and for pictures that the image model cannot take.
        """
        if images.ndim != 5 or images.shape[2] != 3 or 0 in images.shape:
            raise ValueError(
                "ViewNetwork: images must have shape (B, V, 3, H, W) with at least one view, "
                f"got {tuple(images.shape)}."
            )
        count, views = images.shape[:2]
        if views != self.arguments.get("views", views):
            raise ValueError(
                f"ViewNetwork: got {views} views of every object, but its fusion joins "
                f"{self.arguments['views']}: give it as many, or pool them (teacher.pooling max)."
            )
        features = self._features(images.flatten(0, 1)).reshape(count, views, -1)
        pooled = {"max": lambda f: f.amax(1), "mean": lambda f: f.mean(1), "fusion": lambda f: f.flatten(1)}
        embedding: Tensor = self.projection(pooled[self.pooling](features))
        return embedding

    def forward(self, images: Tensor) -> Tensor:
        """(B, num_classes) logits. Raises as `embed`."""
        logits: Tensor = self.classifier(self.embed(images))
        return logits

    def _features(self, pictures: Tensor) -> Tensor:
        """(P, C) features of (P, 3, H, W) pictures."""
        if self.in_channels == 1:
            pictures = pictures.mean(1, keepdim=True)
        pictures = ((pictures - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        try:
            features: Tensor = self.trunk(pictures)
        except (RuntimeError, ValueError, AssertionError, TypeError, IndexError, AttributeError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            reason = (str(error).strip().split("\n")[0] or type(error).__name__).rstrip(".")
            height, width = pictures.shape[-2:]
            raise ValueError(
                f"The image model {type(self.trunk).__name__} cannot take pictures of {height} x {width} "
                f"pixels ({reason}): choose another size (views.size), mostly a larger one, "
                "or an image model made for this one."
            ) from error
        if not isinstance(features, Tensor):
            raise ValueError(
                f"The image model {type(self.trunk).__name__} gives {type(features).__name__}, expected a "
                "tensor: switch its auxiliary outputs off (teacher.image_options)."
            )
        if features.ndim == 4 and tuple(features.shape[2:]) == (1, 1):
            features = features.flatten(1)
        if features.ndim != 2 or len(features) != len(pictures):
            raise ValueError(
                f"The image model {type(self.trunk).__name__} makes {tuple(features.shape)} of "
                f"{len(pictures)} pictures once its classifier is off, expected one vector of each: it has "
                "no pooling; add one, or name its classifier (teacher.classifier)."
            )
        return features

    def _trial(self, size: int) -> int:
        """Width of the features of two pictures of `size` pixels;
        the network's statistics and mode come out unchanged.
        """
        modes = {m: m.training for m in self.trunk.modules()}
        self.trunk.eval()
        device = next(self.trunk.parameters()).device
        self.mean, self.std = self.mean.to(device), self.std.to(device)
        try:
            with torch.no_grad():
                width = int(self._features(torch.zeros(2, 3, size, size, device=device)).shape[1])
        finally:
            for module, mode in modes.items():
                module.training = mode
        if width < 1:
            raise ValueError(
                f"The image model {type(self.trunk).__name__} makes features of no width of a picture."
            )
        return width


class SimpleViewBackbone(nn.Module):
    """(B, channels, H, W) pictures -> (B, 8 * width): SimpleView's ResNet-18 of `width` channels,
    up to its pooling (facts 5.6).

    As a teacher its views are pooled like those of any image model: pooling "fusion" is SimpleView's own.
    width, depths, draws: see `pointlift.models.points.simpleview.SimpleView`.
    channels: 1, depth, or 3, for coloured points. Raises ValueError for other channels.
    """

    def __init__(
        self, width: int = 16, depths: Sequence[int] = (2, 2, 2, 2), channels: Literal[1, 3] = 1
    ) -> None:
        super().__init__()
        if channels not in (1, 3):
            raise ValueError(f"simpleview: channels is {channels!r}, expected 1 (depth) or 3 (colours).")
        whole = SimpleView(width=width, depths=depths)
        self.stem = whole.stem
        if channels == 3:
            self.stem[0] = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            whole.layer1,
            whole.layer2,
            whole.layer3,
            whole.layer4,
        )

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(images)))))
        return features.mean((2, 3))


def _projection(features: int, width: int | None, views: int | None) -> nn.Module:
    """What makes F_img of the pooled features, or of those of `views` views side by side."""
    if views is not None:
        return ViewFusion(views, features, width or features)
    return nn.Identity() if width is None else nn.Sequential(nn.Linear(features, width), nn.ReLU())


def _channels(trunk: nn.Module) -> int:
    """Channels of the picture: what the first convolution takes; 3 for networks that have none."""
    first = next((m for m in trunk.modules() if isinstance(m, nn.Conv2d)), None)
    channels = 3 if first is None else first.in_channels
    if channels not in (1, 3):
        raise ValueError(
            f"The image model {type(trunk).__name__} takes pictures of {channels} channels, expected 3, or 1."
        )
    return channels


def _check(
    num_classes: int,
    pooling: str,
    width: int | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    image_size: int,
    views: int | None,
) -> None:
    check_sizes("ViewNetwork", num_classes, width, image_size)
    if pooling == "fusion" and (views is None or views < 1):
        raise ValueError(
            f"ViewNetwork: pooling is 'fusion' and views {views}, expected how many views every object has."
        )
    if pooling not in get_args(ViewPooling):
        raise ValueError(
            f"ViewNetwork: pooling must be one of {', '.join(get_args(ViewPooling))}, got {pooling!r}."
        )
    for name, numbers in (("mean", mean), ("std", std)):
        bad = numbers is not None and (
            not numbers or not all(math.isfinite(v) for v in numbers) or (name == "std" and min(numbers) <= 0)
        )
        if bad:
            raise ValueError(
                f"ViewNetwork: {name} is {list(numbers or ())}, expected finite "
                f"numbers{', above 0' * (name == 'std')}."
            )
