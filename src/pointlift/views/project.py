"""Pictures of clouds: points projected into the cameras of a rig."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from pointlift.core.sparse_tensor import PointBatch
from pointlift.ops.backend import Backend
from pointlift.ops.depth_maps import depth_maps
from pointlift.ops.raster import splat_points
from pointlift.views.cameras import Rig

__all__ = ["ProjectionMode", "project_cloud"]

ProjectionMode = Literal["z-buffer", "harmonic"]


def project_cloud(
    cloud: PointBatch,
    rig: Rig,
    size: int = 128,
    color: Tensor | None = None,
    splat: int = 1,
    mode: ProjectionMode = "z-buffer",
    background: float = 0.0,
    backend: Backend | None = None,
) -> Tensor:
    """(B, V, C, size, size) float32: depth images (C = 1),
    or colour images (C = 3) where color (N, 3) in 0-1 is given.

    Depths are distances along the viewing direction in the units of the cloud, which is taken as it is: rigs
    are made for clouds in the unit sphere. mode: "z-buffer" draws the nearest point of a pixel, "harmonic"
    the harmonic mean of the depths that land there, SimpleView's pictures (facts 5.6; with the rig
    "simpleview-6", equal to `simple_view_images`), which have no colour. splat: a point covers splat x splat
    pixels, with "harmonic" 1 or an even number. background: of pixels without a point, with "harmonic" 0.
    Raises ValueError for colours that do not fit the cloud, and for options outside their range.
    """
    if mode not in get_args(ProjectionMode):
        raise ValueError(f"mode must be one of {', '.join(get_args(ProjectionMode))}, got {mode!r}.")
    if color is not None and (tuple(color.shape) != (len(cloud.xyz), 3) or not color.is_floating_point()):
        raise ValueError(
            f"color must be floats of shape ({len(cloud.xyz)}, 3), one row per point, got "
            f"{tuple(color.shape)} of {color.dtype}."
        )
    if mode == "z-buffer":
        return splat_points(cloud.xyz, cloud.offsets, rig.cameras, size, color, splat, background, backend)
    for name, refused in (
        ("color", color is not None),
        ("a background", background != 0),
        ("an orthographic rig", rig.field_of_view is None),
    ):
        if refused:
            raise ValueError(
                f'mode "harmonic" draws SimpleView\'s depths and cannot use {name}: '
                'use mode "z-buffer" for that.'
            )
    # depth_maps sees 90 degrees
    lens = torch.tensor([rig.focal, rig.focal, 1.0], dtype=torch.float64)[:, None]
    return depth_maps(cloud.xyz, cloud.offsets, rig.rotations * lens, rig.distance, size, splat, backend)[
        :, :, None
    ]
