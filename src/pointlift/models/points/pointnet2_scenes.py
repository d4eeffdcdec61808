"""PointNet++ for scenes (Qi et al., NeurIPS 2017, appendix B: semantic scene labeling on ScanNet),
names "pointnet2-ssg-scenes" and "pointnet2-msg-scenes".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from pointlift.models.points.pointnet2 import PerScale, Start, Widths
from pointlift.models.points.pointnet2_parts import PointNet2Parts

__all__ = ["SCENES_MSG", "PointNet2Scenes", "pointnet2_msg_scenes", "pointnet2_ssg_scenes"]

# two scales a level: a popular re-implementation's, half and once the single scale's radius
SCENES_MSG: dict[str, Any] = {
    "radii": ((0.05, 0.1), (0.1, 0.2), (0.2, 0.4), (0.4, 0.8)),
    "nsample": ((16, 32),) * 4,
    "mlps": (
        ((16, 16, 32), (32, 32, 64)),
        ((64, 64, 128), (64, 96, 128)),
        ((128, 196, 256), (128, 196, 256)),
        ((256, 256, 512), (256, 384, 512)),
    ),
}


class PointNet2Scenes(PointNet2Parts):
    """Four levels of centres and feature propagation back to all points, without a level over everything.

    With the defaults, FP(widths) for feature propagation:

        SA(1024, 0.1, 32, [32, 32, 64])    SA(256, 0.2, 32, [64, 64, 128])
        SA(64, 0.4, 32, [128, 128, 256])   SA(16, 0.8, 32, [256, 256, 512])
        FP(256, 256)  FP(256, 256)  FP(256, 128)  FP(128, 128, 128)
        linear 128, batch norm, ReLU, dropout 0.5, linear C

    Radii are in metres. The original code cuts scenes into columns of 1.5 x 1.5 m with 8,192 points, which
    1,024 centres cover; a whole room or sweep needs more centres (npoint), or crops. What points carry beside
    xyz goes into the first level and stands beside what the last propagation brings back; coordinates do not,
    as in the original code.

    Args:
        in_channels: xyz and what follows it, see `PointNet2`: 6 with colours.
        num_classes, npoint, radii, nsample, mlps, head, dropout, bias, sampling_start: see `PointNet2`.
        propagation: widths from the coarsest level to the points, as many lists as there are levels.

    Raises ValueError for arguments that do not fit each other.
    """

    own_coordinates = False
    title = "PointNet++ for scenes"

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 13,
        npoint: Sequence[int] = (1024, 256, 64, 16),
        radii: Sequence[PerScale] = (0.1, 0.2, 0.4, 0.8),
        nsample: Sequence[int | Sequence[int]] = (32, 32, 32, 32),
        mlps: Sequence[Widths] = ((32, 32, 64), (64, 64, 128), (128, 128, 256), (256, 256, 512)),
        propagation: Sequence[Sequence[int]] = ((256, 256), (256, 256), (256, 128), (128, 128, 128)),
        head: Sequence[int] = (128,),
        dropout: float = 0.5,
        bias: bool = False,
        sampling_start: Start = "first",
    ) -> None:
        super().__init__(
            in_channels,
            num_classes,
            0,
            npoint,
            radii,
            nsample,
            mlps,
            (),
            propagation,
            head,
            dropout,
            bias,
            sampling_start,
        )
        del self.arguments["categories"], self.arguments["global_mlp"]


pointnet2_ssg_scenes = PointNet2Scenes
pointnet2_msg_scenes = partial(PointNet2Scenes, **SCENES_MSG)
