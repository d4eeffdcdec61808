"""An image network on range images of scans, name "range-view" (Image2Point v1 table 2, v2 table 2:
HRNetV2-W48 in SqueezeSegV3's pipeline; facts 1.9, no code of it was released).

    image  = range image of the scan: x, y, z, intensity, range, normalised; 0 where nothing is
    maps   = image network(image), one for every scale
    fused  = ReLU(batch norm(1x1 convolution(all maps side by side, as large as the finest)))
    logits = linear(fused, bilinear at the pixel of the point)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointlift.core.point_batch import PointBatch
from pointlift.core.sparse_tensor import SparseTensor
from pointlift.inflation.report import TensorFate
from pointlift.inflation.transform import draw_layer
from pointlift.models.points.range_trunk import InputStart, RangeTrunk
from pointlift.nn import CloudNetwork
from pointlift.views.range_view import (
    SEMANTICKITTI_MEAN,
    SEMANTICKITTI_STD,
    KnnVote,
    RangeImages,
    RangeView,
    RowRule,
)

__all__ = ["Answer", "RangeNetwork"]

Answer = Literal["pixel", "vote"]


class RangeNetwork(CloudNetwork):
    """Labels every point of a scan through the range image around its scanner.

    Args:
        image_model: a convolutional image network, of which a copy is taken; `RangeTrunk` says what becomes
            of it. HRNetV2-W48 is timm's hrnet_w48.
        num_classes: C of the logits.
        in_channels: xyz and what follows it; 4 with intensity. `cloud.features` is (N, in_channels) and
            starts with xyz; with 3 it is not looked at. Coordinates always come from `cloud.xyz`, in metres,
            z up, the scanner at the origin. The picture has one channel more, the range.
        height, width, up, down, rows: of the picture, see `RangeView`. The papers' pictures are spherical,
            rows="directions".
        start, keep_rows: see `RangeTrunk`.
        fused: channels of the fused map; 0 leaves the fusion out, so that the classifier sees the maps
            themselves, for linear probes.
        answer: what a point gets in evaluation. "pixel": what is said at its pixel, also where another point
            hides it there. "vote": the mean of the softmax of the nearest pixels, RangeNet++'s kNN vote with
            probabilities in place of labels; its logarithm is given, as logits. In training it is the pixel.
        vote: arguments of `KnnVote` that differ from the paper's.
        mean, std: of the channels, in_channels + 1 numbers each. None: RangeNet++'s for SemanticKITTI,
            without the intensity's for 3 channels; channels behind the intensity are left as they are.

    The first convolution is the input layer; fusion and classifier are the output layer. New layers are drawn
    from torch's stream. Attributes: report, what became of every tensor of the image network; seen_rows, how
    many scans it has seen by "lasers" and by "directions".

    Raises InflationError as `RangeTrunk`, ValueError for options outside their range and, in forward, for
    features of another width and for empty clouds.
    """

    kind = "range-view"
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        image_model: nn.Module,
        num_classes: int = 19,
        in_channels: int = 4,
        height: int = 64,
        width: int = 2048,
        up: float = 3.0,
        down: float = -25.0,
        start: InputStart = "inflated",
        keep_rows: bool = False,
        fused: int = 256,
        answer: Answer = "pixel",
        vote: Mapping[str, Any] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        rows: RowRule = "auto",
    ) -> None:
        _check(num_classes, in_channels, fused, answer)
        arguments: dict[str, Any] = {
            "num_classes": num_classes, "in_channels": in_channels, "height": height, "width": width,
            "up": up, "down": down, "start": start, "keep_rows": keep_rows, "fused": fused, "answer": answer,
            "vote": dict(vote) if vote else None, "mean": list(mean) if mean else None,
            "std": list(std) if std else None, "rows": rows,
        }  # fmt: skip
        backbone = RangeTrunk(image_model, in_channels + 1, start, keep_rows)
        super().__init__(arguments, [f"backbone.{backbone.input_layer}"])
        self.view = RangeView(height, width, up, down, rows)
        self.seen_rows: Counter[str] = Counter()
        self.answer, self.vote = answer, _knn_vote(vote)
        self.register_buffer("mean", _statistics("mean", mean, in_channels, SEMANTICKITTI_MEAN, 0.0))
        self.register_buffer("std", _statistics("std", std, in_channels, SEMANTICKITTI_STD, 1.0))
        self.backbone = backbone
        self.fuse = _fusion(sum(backbone.widths), fused)
        self.head = nn.Linear(fused or sum(backbone.widths), num_classes)
        self.to(next(image_model.parameters()).device)
        self.fixed = frozenset(n for n, p in self.named_parameters() if not p.requires_grad)
        self.report = backbone.report
        self.report.rows[:] = [
            replace(row, target=row.target and f"backbone.network.{row.target}") for row in self.report.rows
        ]
        new = self.fuse.state_dict(prefix="fuse.") | self.head.state_dict(prefix="head.")
        for name, tensor in new.items():
            self.report.rows.append(
                TensorFate(name, "re-initialised", None, tuple(tensor.shape), name, "new layer")
            )

    # -------------------------------------------------------------------------------------- forward

    def project(self, cloud: PointBatch) -> RangeImages:
        """The range images of a batch, channels as they are. Raises ValueError as forward does."""
        self.points_of(cloud)
        found = self.view.project(cloud, self.extra_features(cloud))
        self.seen_rows.update(found.rows)
        return found

    def fused_map(self, images: Tensor) -> Tensor:
        """(B, in_channels + 1, H, W) range images to the fused map (B, C, h, w), as large as the finest."""
        empty = images[:, -1:] == 0
        normalised = (images - self.mean[:, None, None]) / self.std[:, None, None]
        maps = self.backbone(normalised.masked_fill(empty, 0.0))
        size = maps[0].shape[2:]
        large = [m if m.shape[2:] == size else _resized(m, size) for m in maps]
        out: Tensor = self.fuse(torch.cat(large, dim=1))
        return out

    def forward_features(self, cloud: PointBatch) -> Tensor:
        """(N, C): the fused map at the pixel of every point, bilinear."""
        seen = self.project(cloud)
        return self._at_pixels(self.fused_map(seen.images), seen)

    def forward(self, cloud: PointBatch | SparseTensor) -> Tensor:
        """(N, num_classes) logits, one row per point. Raises as the class, TypeError for voxels."""
        if self.training or self.answer == "pixel":
            return super().forward(cloud)
        seen = self.project(self.as_input(cloud))
        logits = self.head(self.fused_map(seen.images).movedim(1, 3)).movedim(3, 1)
        picture = _resized(logits, seen.index.shape[1:])
        return self.vote.scores(seen, picture.softmax(dim=1)).clamp(min=1e-12).log()

    def _at_pixels(self, fused: Tensor, seen: RangeImages) -> Tensor:
        """(N, C) what `_resized(fused, (H, W))` has at every point's pixel, without making all of it."""
        height, width = seen.index.shape[1:]
        row, column = seen.pixel // width % height, seen.pixel % width
        cloud = seen.pixel // (width * height)
        (h, w), flat = fused.shape[2:], fused.movedim(1, 3).flatten(0, 2)
        above, below, low = _between(row, height, h)
        left, right, aside = _between(column, width, w)

        def at(y: Tensor, x: Tensor) -> Tensor:
            return flat[(cloud * h + y) * w + x]

        low, aside = low.to(flat.dtype)[:, None], aside.to(flat.dtype)[:, None]
        upper = torch.lerp(at(above, left), at(above, right), aside)
        return torch.lerp(upper, torch.lerp(at(below, left), at(below, right), aside), low)

    # -------------------------------------------------------------------------------------- training

    def in_backbone(self, name: str) -> bool:
        """Whether a module is of the image network, and not its input layer."""
        return super().in_backbone(name) and not (name == "fuse" or name.startswith("fuse."))

    def draw_anew(self) -> None:
        """Every layer's own initialisation; parameters of layers that have none, in random order."""
        for module in self.modules():
            draw_layer(module)

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        return [{"num_chs": self.head.in_features, "reduction": 1, "module": ""}]


def _fusion(channels: int, fused: int) -> nn.Sequential:
    """1x1 convolution, batch norm and ReLU; nothing for `fused` 0."""
    if not fused:
        return nn.Sequential()
    return nn.Sequential(
        nn.Conv2d(channels, fused, 1, bias=False), nn.BatchNorm2d(fused), nn.ReLU(inplace=True)
    )


def _resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


def _between(place: Tensor, large: int, small: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two of `small` places between which one of `large` lies, and the share of the second."""
    where = ((place + 0.5) * (small / large) - 0.5).clamp(min=0)
    first = where.floor().long().clamp(max=small - 1)
    return first, (first + 1).clamp(max=small - 1), where - first


def _knn_vote(given: Mapping[str, Any] | None) -> KnnVote:
    try:
        return KnnVote(**(given or {}))
    except TypeError:
        known = ", ".join(KnnVote.__dataclass_fields__)
        raise ValueError(
            f"vote has the keys {', '.join(given or {})}, some of {known} are expected."
        ) from None


def _statistics(
    name: str,
    given: Sequence[float] | None,
    in_channels: int,
    published: Sequence[float],
    neutral: float,
) -> Tensor:
    """(in_channels + 1,) of x, y, z, what points carry beside, and the range."""
    if given is None:
        own = [published[3]] + [neutral] * (in_channels - 4)
        given = [*published[:3], *(own if in_channels > 3 else []), published[4]]
    if len(given) != in_channels + 1 or (name == "std" and min(given) <= 0):
        raise ValueError(
            f"{name} has {len(given)} numbers, {in_channels + 1} are expected for in_channels {in_channels} "
            "and the range; deviations are above 0."
        )
    return torch.tensor([float(v) for v in given])


def _check(num_classes: int, in_channels: int, fused: int, answer: str) -> None:
    if num_classes < 1 or fused < 0 or in_channels < 3:
        raise ValueError(
            f"RangeNetwork: got num_classes {num_classes}, in_channels {in_channels} and fused {fused}, "
            "expected at least 1, 3 and 0."
        )
    if answer not in get_args(Answer):
        raise ValueError(
            f"RangeNetwork: answer must be one of {', '.join(get_args(Answer))}, got {answer!r}."
        )
