"""PointNet++ for part segmentation (Qi et al., NeurIPS 2017, appendix B),
names "pointnet2-ssg-parts" and "pointnet2-msg-parts".

The encoder is `PointNet2`'s, tensor for tensor, so that one that was trained to classify (PointCMT,
supplement B.5, table 11) can be put in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from pointlift.core.sparse_tensor import PointBatch, SparseTensor
from pointlift.models.points.pointnet2 import MSG, PerScale, PointNet2, Start, Widths
from pointlift.nn.classifier import classifier
from pointlift.nn.feature_propagation import FeaturePropagation

__all__ = ["ENCODER", "PointNet2Parts", "pointnet2_msg_parts", "pointnet2_ssg_parts"]

ENCODER = ("levels", "whole")


class PointNet2Parts(PointNet2):
    """The levels of `PointNet2`, feature propagation back through them to all points,
    and a classifier of points.

    With xyz alone, one-hot categories and the defaults, FP(widths) for feature propagation:

        SA(512, 0.2, 64, [64, 64, 128])  SA(128, 0.4, 64, [128, 128, 256])  SA([256, 512, 1024])
        FP(256, 256)   at the 128 points, beside their 256 channels
        FP(256, 128)   at the 512 points, beside their 128 channels
        FP(128, 128, 128)   at all points, beside [category (16), xyz]
        linear 128, batch norm, ReLU, dropout 0.5, linear 50

    The original code gives the category to the multi-scale network only, between category and coordinates as
    here; `categories` 0 leaves it out. Its multi-scale encoder has other scales than its classifier's (two in
    the second level), so that no classifier's weights fit it; here it is the classifier's.

    Args:
        in_channels, npoint, radii, nsample, mlps, bias, sampling_start: of the encoder, see `PointNet2`.
        global_mlp: of the level over everything; empty: there is none, and propagation begins at the last
            level, with one list of widths less.
        num_classes: P, parts of all categories together.
        categories: how many categories of objects there are; 0: the network is not told.
        propagation: widths from the coarsest level to the points, one list more than there are levels; with
            an empty list a step only interpolates.
        head: widths of the classifier's hidden layers. dropout: behind each of them.

    The cloud's labels["class"] (B,) is the category.
    Where a batch has no such label the category is unknown and its channels are 0.

    Raises ValueError for arguments that do not fit each other.
    """

    needs_whole = False
    own_coordinates: ClassVar[bool] = True  # whether they stand beside what is brought back to the points
    title: ClassVar[str] = "PointNet++ parts"

    output_modules: ClassVar[tuple[str, ...]] = ("propagation", "head")

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 50,
        categories: int = 16,
        npoint: Sequence[int] = (512, 128),
        radii: Sequence[PerScale] = (0.2, 0.4),
        nsample: Sequence[int | Sequence[int]] = (64, 64),
        mlps: Sequence[Widths] = ((64, 64, 128), (128, 128, 256)),
        global_mlp: Sequence[int] = (256, 512, 1024),
        propagation: Sequence[Sequence[int]] = ((256, 256), (256, 128), (128, 128, 128)),
        head: Sequence[int] = (128,),
        dropout: float = 0.5,
        bias: bool = False,
        sampling_start: Start = "first",
    ) -> None:
        super().__init__(
            in_channels,
            num_classes,
            npoint,
            radii,
            nsample,
            mlps,
            global_mlp,
            head,
            dropout,
            bias,
            sampling_start,
        )
        steps = len(self.levels) + bool(global_mlp)
        if categories < 0 or len(propagation) != steps:
            raise ValueError(
                f"{self.title}: got {categories} categories and {len(propagation)} propagation widths, "
                f"expected 0 categories or more and {steps} lists of widths, "
                f"{'one more than levels' if global_mlp else 'one per level'}."
            )
        self.arguments |= {"categories": categories, "propagation": [list(widths) for widths in propagation]}
        self.categories = categories
        found = [sum(widths[-1] for widths in level) for level in self.arguments["mlps"]]
        channels = global_mlp[-1] if global_mlp else found.pop()
        beside = [categories + in_channels - (0 if self.own_coordinates else 3), *found]
        self.propagation = nn.ModuleList()
        for own, widths in zip(reversed(beside), propagation):
            self.propagation.append(FeaturePropagation(channels, own, widths, bias))
            channels = self.propagation[-1].out_channels
        self.head = classifier(channels, head, num_classes, dropout, bias)

    def forward_features(self, cloud: PointBatch) -> Tensor:
        """(N, C): one feature per point, what the classifier of points sees.

        Raises ValueError for an empty cloud, a single point in training mode, features of another width,
        and categories out of range.
        """
        self.check_clouds(cloud)
        levels, features = self.encode(cloud)
        own = [cloud.xyz if self.own_coordinates else None, self.extra_features(cloud)]
        known = [*self._category(cloud), *(t for t in own if t is not None)]
        points = torch.cat(known, dim=1) if known else None
        coarse_xyz: Tensor | None = None
        coarse_offsets = torch.arange(len(cloud) + 1, device=cloud.offsets.device)
        if self.whole is None:
            coarse_xyz, _, coarse_offsets = levels.pop()
        for propagate, (xyz, beside, offsets) in zip(
            self.propagation, [*reversed(levels), (cloud.xyz, points, cloud.offsets)]
        ):
            features = propagate(xyz, offsets, beside, coarse_xyz, features, coarse_offsets)
            coarse_xyz, coarse_offsets = xyz, offsets
        return features

    def forward(self, cloud: PointBatch | SparseTensor) -> Tensor:
        """(N, num_classes) logits, one row per point. Raises TypeError for voxels,
        and as `forward_features`.
        """
        return super().forward(cloud)

    def check_clouds(self, cloud: PointBatch) -> None:
        """Raises ValueError for no clouds, an empty one, and a single point where training needs statistics
        of points.
        """
        if sum(self.points_of(cloud)) < 2 and self.training:
            raise ValueError(
                f"{type(self).__name__}: got 1 point in training mode, batch normalisation needs at least 2."
            )

    def _category(self, cloud: PointBatch) -> list[Tensor]:
        """[(N, categories)], or nothing for a network that is not told the category."""
        if not self.categories:
            return []
        counts = cloud.offsets.diff()
        label = cloud.labels.get("class")
        if label is None:
            return [cloud.xyz.new_zeros(len(cloud.xyz), self.categories)]
        if label.shape != (len(cloud),) or bool(((label < 0) | (label >= self.categories)).any()):
            raise ValueError(
                f"{type(self).__name__}: labels['class'] is {label.tolist()[:8]}, expected a category of "
                f"0..{self.categories - 1} for each of {len(cloud)} clouds; "
                "leave the label out where categories are not known."
            )
        return [
            nn.functional.one_hot(label, self.categories).to(cloud.xyz.dtype).repeat_interleave(counts, dim=0)
        ]


pointnet2_ssg_parts = PointNet2Parts
pointnet2_msg_parts = partial(PointNet2Parts, **MSG, propagation=((256, 256), (256, 128), (128, 128)))
