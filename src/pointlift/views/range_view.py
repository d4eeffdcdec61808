"""Range images of scans: what a turning scanner sees, unrolled (RangeNet++, Milioto et al., IROS 2019).

A point at (x, y, z), r metres from the scanner, which stands at the origin with z up, falls into
    column = (1 - atan2(y, x) / pi) / 2 * W        the middle is straight ahead, the left is left
    row    = the number of its laser               where the order of the points tells it, or by direction
           = (up - asin(z / r)) / (up - down) * H  RangeNet++'s spherical picture
Every pixel shows the nearest of its points; the others take its answer, or that of the k nearest pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from pointlift.core.point_batch import PointBatch
from pointlift.ops.ragged import check_count
from pointlift.views.lasers import sweep_rows

__all__ = [
    "SEMANTICKITTI_MEAN",
    "SEMANTICKITTI_STD",
    "KnnVote",
    "RangeImages",
    "RangeView",
    "RowRule",
]

RowRule = Literal["auto", "lasers", "directions"]

# RangeNet++'s configuration for SemanticKITTI, here in the order x, y, z, intensity, range
SEMANTICKITTI_MEAN = (10.88, 0.23, -1.04, 0.21, 12.12)
SEMANTICKITTI_STD = (11.47, 6.91, 0.86, 0.16, 12.32)


@dataclass(frozen=True)
class RangeImages:
    """Range images of B clouds, and which pixel every point belongs to.

    Attributes:
        images: (B, C, H, W) float32: x, y, z, what points carry beside, and the range; 0 where nothing is.
        index: (B, H, W) int64 row of the point that a pixel shows, -1 for none.
        pixel: (N,) int64 the pixel of every point, counted through all images.
        range: (N,) float32 metres from the scanner.
        rows: for each cloud what its rows are: "lasers", "directions", or "given".
    """

    images: Tensor
    index: Tensor
    pixel: Tensor
    range: Tensor
    rows: tuple[str, ...]

    @property
    def shown(self) -> Tensor:
        """(N,) bool: whether a point is the one that its pixel shows."""
        rows = torch.arange(len(self.pixel), device=self.pixel.device)
        return self.index.reshape(-1)[self.pixel] == rows

    def draw(self, values: Tensor, empty: float = 0.0) -> Tensor:
        """(B, H, W) or (B, C, H, W): values (N,) or (N, C) of points, at the pixels that show them."""
        picture = values.new_full((self.index.numel(), *values.shape[1:]), empty)
        seen = self.index.reshape(-1) >= 0
        picture[seen] = values[self.index.reshape(-1)[seen]]
        picture = picture.reshape(*self.index.shape, *values.shape[1:])
        return picture if values.ndim == 1 else picture.movedim(3, 1)

    def at_points(self, picture: Tensor) -> Tensor:
        """(N,) or (N, C): the values of pictures (B, H, W) or (B, C, H, W) at every point's pixel, also of
        points that another one hides.
        """
        flat = picture.reshape(-1) if picture.ndim == 3 else picture.movedim(1, 3).flatten(0, 2)
        return flat[self.pixel]


@dataclass(frozen=True)
class RangeView:
    """A picture around the scanner.

    Attributes:
        height, width: pixels, H and W; 64 x 2048 for 64 lasers as in RangeNet++.
        up, down: the highest and lowest direction in degrees, 3 and -25 for SemanticKITTI's scanner. Points
            beyond belong to the first or last row.
        rows: "directions": rows are evenly spaced directions, RangeNet++'s spherical picture. Lasers are not
            evenly spaced: of SemanticKITTI's 64 some share a row, others leave one empty. "lasers": a row
            for every laser, by the order of the points (`sweep_rows`); one that shows none is an error.
            "auto": lasers for each cloud whose order shows them, directions for the others; the projection
            says which.

    Raises:
        ValueError: a picture without pixels, directions outside -90 .. 90 or the wrong way round, or an
            unknown rule.
    """

    height: int = 64
    width: int = 2048
    up: float = 3.0
    down: float = -25.0
    rows: RowRule = "auto"

    def __post_init__(self) -> None:
        if self.rows not in get_args(RowRule):
            raise ValueError(
                f"RangeView(rows={self.rows!r}): one of {', '.join(get_args(RowRule))} is expected"
            )
        check_count("height", self.height)
        check_count("width", self.width)
        if not -90 <= self.down < self.up <= 90:
            raise ValueError(
                f"RangeView(up={self.up}, down={self.down}): degrees with -90 <= down < up <= 90 are expected"
            )

    def project(
        self, cloud: PointBatch, beside: Tensor | None = None, rows: Tensor | None = None
    ) -> RangeImages:
        """The range images of a batch of scans, each seen from its origin. Clouds may be empty.

        Args:
            cloud: coordinates (N, 3) in metres, z up, the scanner at the origin.
            beside: (N, E) what points carry, such as the intensity: channels between z and the range.
            rows: (N,) int64 the picture's row of every point, such as a scanner's own ring numbers; None: by
                the view's rule.

        Raises:
            ValueError: another number of values than points, rows outside the picture, or a scan that shows
                no lasers where the rule wants them.
        """
        xyz, count = cloud.xyz, len(cloud.xyz)
        for name, values in (("beside", beside), ("rows", rows)):
            if values is not None and len(values) != count:
                raise ValueError(f"{name} has {len(values)} rows for {count} points, one each is expected")
        if rows is not None and count and not 0 <= int(rows.min()) <= int(rows.max()) < self.height:
            raise ValueError(
                f"rows must be in 0..{self.height - 1}, got {int(rows.min())}..{int(rows.max())}"
            )
        distance = xyz.double().norm(dim=1)
        row, column = self._place(xyz.double(), distance)
        row, rule = self._rows(cloud, row) if rows is None else (rows, ("given",) * len(cloud))
        pixel = (cloud.batch * self.height + row) * self.width + column
        index = _nearest(pixel, distance, len(cloud) * self.height * self.width)
        index = index.reshape(len(cloud), self.height, self.width)
        channels = [xyz, *([] if beside is None else [beside.to(xyz.dtype)]), distance.to(xyz.dtype)[:, None]]
        found = RangeImages(xyz.new_zeros(0), index, pixel, distance.to(xyz.dtype), rule)
        return replace(found, images=found.draw(torch.cat(channels, dim=1)))

    def _rows(self, cloud: PointBatch, row: Tensor) -> tuple[Tensor, tuple[str, ...]]:
        """(N,) rows of points by the view's rule, and for each cloud what they are. row: by direction."""
        if self.rows == "directions":
            return row, ("directions",) * len(cloud)
        starts = cloud.offsets.tolist()
        rows, rule = row.clone(), []
        for i, (start, stop) in enumerate(pairwise(starts)):
            found = sweep_rows(cloud.xyz[start:stop], self.height)
            if found is not None:
                rows[start:stop] = found
            elif self.rows == "lasers" and stop > start:
                raise ValueError(
                    f"scan {i} of the batch is in no order that shows {self.height // 2 + 1} to "
                    f"{self.height} lasers: one turn of each after the other, as in SemanticKITTI's files, "
                    'is expected; use rows="auto" or rows="directions"'
                )
            rule.append("directions" if found is None else "lasers")
        return rows, tuple(rule)

    def _place(self, xyz: Tensor, distance: Tensor) -> tuple[Tensor, Tensor]:
        """(N,), (N,) row and column; a point at the scanner itself is straight ahead on the horizon."""
        azimuth = torch.atan2(xyz[:, 1], xyz[:, 0])
        elevation = torch.asin((xyz[:, 2] / distance.clamp(min=1e-12)).clamp(-1, 1)) * (180 / math.pi)
        column = (1 - azimuth / math.pi) / 2 * self.width
        row = (self.up - elevation) / (self.up - self.down) * self.height
        return (
            row.floor().long().clamp(0, self.height - 1),
            column.floor().long().clamp(0, self.width - 1),
        )


def _nearest(pixel: Tensor, distance: Tensor, pixels: int) -> Tensor:
    """(pixels,) the row of the nearest point of each, the first of equal ones; -1 for none."""
    least = distance.new_full((pixels,), torch.inf).scatter_reduce(0, pixel, distance, "amin")
    nearest = (distance == least[pixel]).nonzero().flatten()
    none = len(pixel)
    index = pixel.new_full((pixels,), none).scatter_reduce(0, pixel[nearest], nearest, "amin")
    return torch.where(index == none, -1, index)


@dataclass(frozen=True)
class KnnVote:
    """RangeNet++'s answer for every point (section III-D), from what a network says of pixels.

    for every point
        candidates: the search x search pixels around its own; the own pixel is taken at the point's own range
        distance = |range of the pixel - range of the point| * (1 - Gaussian of the pixel's place)
        the k nearest candidates within cutoff vote

    The picture is closed: what lies left of its first column is its last.

    Attributes:
        k, search, sigma: 5, 5, and 1 pixel in the paper. cutoff: 1 metre in the paper.
        own_range: False: the own pixel is a candidate like the others, at the range that it shows, so that a
            pixel in front has no vote for a point behind it; this is not the paper's.

    Raises:
        ValueError: an even or too small search, or numbers that are not positive.
    """

    k: int = 5
    search: int = 5
    sigma: float = 1.0
    cutoff: float = 1.0
    own_range: bool = True

    def __post_init__(self) -> None:
        if self.search < 1 or self.search % 2 == 0 or not 1 <= self.k <= self.search**2:
            raise ValueError(
                f"KnnVote(k={self.k}, search={self.search}): an odd search and k of 1 to search * search "
                "are expected"
            )
        if self.sigma <= 0 or self.cutoff <= 0:
            raise ValueError(
                f"KnnVote(sigma={self.sigma}, cutoff={self.cutoff}): positive numbers are expected"
            )

    def labels(self, seen: RangeImages, labels: Tensor, classes: int) -> Tensor:
        """(N,) int64: the class that most of a point's candidates have, the lowest of equal ones; as
        RangeNet++'s, from labels (B, H, W) int64 of pixels in 0 .. classes - 1.
        """
        one_hot = torch.nn.functional.one_hot(labels, classes).movedim(3, 1).to(torch.float32)
        return self.scores(seen, one_hot).argmax(dim=1)

    def scores(self, seen: RangeImages, scores: Tensor) -> Tensor:
        """(N, C): the mean of the scores (B, C, H, W) of the pixels that vote for a point; its own pixel's
        where none is near enough.
        """
        flat = scores.movedim(1, 3).flatten(0, 2)
        distance, pixels = self._candidates(seen)
        nearest = distance.topk(self.k, dim=1, largest=False)
        total = flat.new_zeros(len(seen.pixel), flat.shape[1])
        count = flat.new_zeros(len(seen.pixel), 1)
        for j in range(self.k):
            votes = (nearest.values[:, j : j + 1] <= self.cutoff).to(flat.dtype)
            total += votes * flat[pixels.gather(1, nearest.indices[:, j : j + 1])[:, 0]]
            count += votes
        return torch.where(count > 0, total / count.clamp(min=1), flat[seen.pixel])

    def _candidates(self, seen: RangeImages) -> tuple[Tensor, Tensor]:
        """(N, search * search) weighted distances of a point's candidates, infinite where there are none,
        and their pixels.
        """
        height, width = seen.index.shape[1:]
        row, column = seen.pixel // width % height, seen.pixel % width
        shown = seen.draw(seen.range, empty=torch.inf).reshape(-1)
        reach = self.search // 2
        distances, pixels = [], []
        for down, weights in zip(range(-reach, reach + 1), self._weights()):
            inside = (row + down >= 0) & (row + down < height)
            for right, weight in zip(range(-reach, reach + 1), weights):
                at = seen.pixel + torch.where(inside, down, 0) * width - column + (column + right) % width
                away = (shown[at] - seen.range).abs() * weight
                if self.own_range and down == right == 0:
                    away = torch.zeros_like(away)
                distances.append(away.masked_fill(~inside, torch.inf))
                pixels.append(at)
        return torch.stack(distances, dim=1), torch.stack(pixels, dim=1)

    def _weights(self) -> list[list[float]]:
        """search x search: 1 less a Gaussian that sums to 1."""
        offset = torch.arange(self.search, dtype=torch.float64) - self.search // 2
        line = torch.exp(-(offset**2) / (2 * self.sigma**2))
        window = line[:, None] * line[None]
        weights: list[list[float]] = (1 - window / window.sum()).tolist()
        return weights
