"""Feature maps of frozen image networks: what PPKT's f2D gives (section 3.2), for any of them.

Convolutional networks give their last map, vision transformers their patch tokens as a map. Pictures are
normalised as the network's weights want them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pointlift.teachers.image_features import without_classifier

__all__ = ["DenseFeatures", "as_map", "pool_map", "sample_map"]


class DenseFeatures(nn.Module):
    """A frozen image network that gives maps.

    Args:
        network: a timm network, whose `forward_features` is its last map or its tokens; or any module from
            pictures to maps (B, C, h, w), once its classifier is off.
        mean, std: of the channels, pixels in 0-1.
        image_size: (height, width) of the pictures, with which the map is looked at once.
        layer: dotted name of the module whose output is the map; None: the last.

    Attributes:
        channels: of the map. map_size: its (height, width). stride: pixels of the picture per pixel of the
            map, (rows, columns). arguments: what is done to pictures, for the identity of kept features.

    Always in evaluation mode, and without gradients. Raises ValueError for a network without a map: one that
    gives a vector, or a map of one pixel only.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        image_size: Sequence[int],
        layer: str | None = None,
    ) -> None:
        super().__init__()
        self.layer = layer
        own = callable(getattr(network, "forward_features", None))
        self.network = network if own or layer is not None else without_classifier(network)
        if layer is not None and layer not in dict(network.named_modules()):
            raise ValueError(
                f"teacher: the network has no module {layer!r}; its last ones are "
                f"{', '.join([n for n, _ in network.named_modules()][-4:])}."
            )
        self.register_buffer("mean", torch.tensor(list(mean)).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).view(1, -1, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()
        found = self(torch.zeros(1, 3, int(image_size[0]), int(image_size[1])))
        height, width = found.shape[2:]
        if height * width < 2:
            raise ValueError(
                f"teacher: {type(network).__name__} gives a map of one pixel for pictures of "
                f"{image_size[0]} x {image_size[1]}, so that all pixels would have one feature: take larger "
                "pictures, or an earlier layer (teacher.layer)."
            )
        self.channels = int(found.shape[1])
        self.stride = (image_size[0] / height, image_size[1] / width)
        self.map_size = (int(height), int(width))
        self.arguments = {
            "mean": [float(v) for v in mean], "std": [float(v) for v in std], "layer": layer,
            "image_size": [int(v) for v in image_size],
        }  # fmt: skip

    def train(self, mode: bool = True) -> DenseFeatures:
        """The network stays in evaluation mode: its statistics are part of what it knows."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> Tensor:
        """(B, C, h, w) of pictures (B, 3, H, W), uint8 or in 0-1."""
        x = pictures.float() / 255 if pictures.dtype == torch.uint8 else pictures
        x = (x - self.mean) / self.std
        return as_map(self._raw(x), self.network, x.shape[2:])

    @property
    def embed_dim(self) -> int:
        """Numbers in a map."""
        return self.channels * self.map_size[0] * self.map_size[1]

    def embed(self, pictures: Tensor) -> Tensor:
        """(B, C * h * w): maps as rows, which `teacher_features` keeps in a file."""
        return self(pictures).flatten(1)

    def _raw(self, x: Tensor) -> Any:
        if self.layer is None:
            features: Any = getattr(self.network, "forward_features", self.network)
            return features(x)
        found: list[Any] = []
        handle = self.network.get_submodule(self.layer).register_forward_hook(
            lambda module, args, out: found.append(out)
        )
        try:
            self.network(x)
        finally:
            handle.remove()
        return found[-1]


def as_map(found: Any, network: nn.Module, size: Sequence[int]) -> Tensor:
    """(B, C, h, w) of what an image network gives for pictures of `size` (height, width): a map, channels
    first or last, or tokens after a few that stand for the whole picture.

    Raises ValueError for anything else.
    """
    out: Tensor = found[0] if isinstance(found, (tuple, list)) else found
    if out.ndim == 4:
        last = getattr(network, "output_fmt", None) == "NHWC" or (
            out.shape[3] == getattr(network, "num_features", None) != out.shape[1]
        )
        return out.permute(0, 3, 1, 2) if last else out
    if out.ndim == 3:
        prefix = int(getattr(network, "num_prefix_tokens", 0))
        count = out.shape[1] - prefix
        embed: Any = getattr(network, "patch_embed", None)
        patch = getattr(embed, "patch_size", None)
        if patch is not None:
            rows, columns = size[0] // patch[0], size[1] // patch[1]
            if rows * columns == count:
                tokens = out[:, prefix:]
                return tokens.transpose(1, 2).reshape(len(out), -1, rows, columns)
    raise ValueError(
        f"teacher: {type(network).__name__} gives features of shape {tuple(out.shape)}, of which no map can "
        "be made: name a layer that has one (teacher.layer)."
    )


def sample_map(maps: Tensor, size: Sequence[int], of: Tensor, places: Tensor) -> Tensor:
    """(P, C): maps (B, C, h, w), upsampled bilinearly to `size` (height, width), at pixels.

    The pixel of a place is that of `views.rgbd`, and the value there is that of
    ``interpolate(maps, size, mode="bilinear", align_corners=False)``, without making the large map.

    Args:
        maps: of pictures of `size`.
        size: of the pictures.
        of: (P,) int64 which picture. places: (P, 2) float (u, v) in it, inside.
    """
    b, c, h, w = maps.shape
    rows, row_share = _between(torch.floor(places[:, 1] + 0.5), int(size[0]), h)
    columns, column_share = _between(torch.floor(places[:, 0] + 0.5), int(size[1]), w)
    flat = maps.permute(0, 2, 3, 1).reshape(b * h * w, c)
    out = flat.new_zeros(len(of), c)
    for i in (0, 1):
        for j in (0, 1):
            weight = (row_share if i else 1 - row_share) * (column_share if j else 1 - column_share)
            at = (of * h + rows[i]) * w + columns[j]
            out = out + flat[at] * weight[:, None].to(flat.dtype)
    return out


def pool_map(maps: Tensor, segments: Tensor, count: int) -> Tensor:
    """(B * count, C): means of maps (B, C, h, w), upsampled bilinearly, over the pixels of every segment.

    Upsampling and the mean are linear: the weights of a segment's pixels are added up, and the large map is
    never made. A segment without pixels has zeros.

    Args:
        maps: of pictures of H x W pixels.
        segments: (B, H, W) int64 segment of every pixel, below `count`.
        count: of segments per picture; row b * count + s is segment s of picture b.
    """
    b, c, h, w = maps.shape
    height, width = segments.shape[1:]
    rows, row_share = _between(torch.arange(height, device=maps.device).float(), height, h)
    columns, column_share = _between(torch.arange(width, device=maps.device).float(), width, w)
    first = (torch.arange(b, device=maps.device) * count)[:, None, None]
    segment = (segments + first).reshape(-1)
    weights = maps.new_zeros(b * count * h * w)
    for i in (0, 1):
        for j in (0, 1):
            down = row_share if i else 1 - row_share
            right = column_share if j else 1 - column_share
            weight = (down[:, None] * right[None, :]).to(maps.dtype).expand(b, -1, -1).reshape(-1)
            place = (rows[i][:, None] * w + columns[j][None, :]).expand(b, -1, -1).reshape(-1)
            weights.index_add_(0, segment * (h * w) + place, weight)
    sizes = torch.bincount(segment, minlength=b * count).clamp(min=1).to(maps.dtype)
    flat = maps.flatten(2).transpose(1, 2)
    return (weights.view(b, count, h * w) @ flat).reshape(b * count, c) / sizes[:, None]


def _between(pixel: Tensor, size: int, count: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """The two entries of a row of `count` between which pixel centres of a row of `size` lie, and the share
    of the second.
    """
    at = ((pixel + 0.5) * (count / size) - 0.5).clamp(min=0)
    low = at.floor().long().clamp(max=count - 1)
    high = (low + 1).clamp(max=count - 1)
    return (low, high), at - low
