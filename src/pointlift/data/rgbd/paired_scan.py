"""`PairedScan`: a LiDAR scan and a picture of the same moment, which show each other's places."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError
from pointlift.data.rgbd.frame import rigid
from pointlift.data.sample import Sample
from pointlift.data.scene_features import NEUTRAL
from pointlift.views.rgbd import Pinhole, pixel_of

__all__ = ["PairedScan"]

Floats = npt.NDArray[np.floating[Any]]


def _eye() -> npt.NDArray[np.float64]:
    return np.eye(4)


@dataclass(frozen=True, eq=False)
class PairedScan:
    """A scan with one camera's picture. There is no depth map: points are measured, and find their pixels by
    the calibration.

    Points that a nearer thing hides from the camera, which stands beside the scanner, are not told apart, as
    in SLidR (facts 2.2).

    Attributes:
        xyz: (N, 3) metres in the scanner's frame, z up.
        intensity: (N,) float32 in 0-1.
        color: (H, W, 3) uint8.
        camera: of the picture.
        to_camera: (4, 4) from the scanner's frame to the camera's (x right, y down, z forward).
        pose: (4, 4) from the scanner's frame to the world's; None where it is not known.
        points: ``"all"`` keeps what the picture does not show, in a neutral colour and without a place;
            ``"seen"`` leaves it out.
        nearest: metres before the camera below which points have no place; 1 m: SLidR's (facts 2.2).
        name: for messages. scene: which recording the scan is of.

    Raises:
        DataError: a picture of another size than its camera's, points that are not (N, 3) with an intensity
            each, or a matrix that is not a finite rigid motion.
    """

    xyz: Floats
    intensity: npt.NDArray[np.float32]
    color: npt.NDArray[np.uint8]
    camera: Pinhole
    to_camera: Floats = field(default_factory=_eye)
    pose: Floats | None = None
    points: Literal["all", "seen"] = "all"
    nearest: float = 1.0
    name: str = "a scan"
    scene: str = ""

    def __post_init__(self) -> None:
        if self.xyz.ndim != 2 or self.xyz.shape[1] != 3 or self.intensity.shape != (len(self.xyz),):
            raise DataError(
                f"{self.name}: has points of shape {self.xyz.shape} and intensities of "
                f"{self.intensity.shape}, (N, 3) and (N,) are expected"
            )
        if self.color.shape != (self.camera.height, self.camera.width, 3):
            raise DataError(
                f"{self.name}: the picture has shape {self.color.shape}, its calibration is of "
                f"{self.camera.height} x {self.camera.width} pixels"
            )
        rigid(self.to_camera, f"{self.name}: the calibration from scanner to camera")
        if self.pose is not None:
            rigid(self.pose, f"{self.name}: the pose")

    def places(self, nearest: float = 0.0, farthest: float | None = None) -> npt.NDArray[np.float64]:
        """(N, 2) where the picture shows each point, (u, v) by `views.rgbd`; NaN where it does not.

        Args:
            nearest, farthest: metres along the camera's axis between which points have places.
        """
        seen_from = np.asarray(self.xyz, np.float64) @ self.to_camera[:3, :3].T + self.to_camera[:3, 3]
        places = self.camera.project(seen_from)
        z = seen_from[:, 2]
        with np.errstate(invalid="ignore"):
            shown = (z >= max(nearest, self.nearest)) & (z <= (np.inf if farthest is None else farthest))
        shown &= pixel_of(places, self.camera.height, self.camera.width)[1]
        return np.where(shown[:, None], places, np.nan)

    def sample(self, nearest: float = 0.0, farthest: float | None = None) -> Sample:
        """As `frame.sample_of` has a frame, in the scanner's coordinates: features are colour (0-1; neutral
        where the picture shows nothing) and intensity, extras hold "places", "picture" and "origin" (0),
        ``instance`` is the row of the place.

        Raises:
            DataError: the picture shows no point.
        """
        finite = np.isfinite(self.xyz).all(axis=1)
        places = self.places(nearest, farthest)
        shown = finite & np.isfinite(places[:, 0])
        if not shown.any():
            raise DataError(
                f"{self.name}: none of its {len(self.xyz)} points lies in the picture; the calibration is of "
                "other files, or from camera to scanner"
            )
        colors = np.full((len(self.xyz), 3), NEUTRAL["colors"], np.float32)
        pixels = pixel_of(places[shown], self.camera.height, self.camera.width)[0]
        colors[shown] = self.color[pixels[:, 0], pixels[:, 1]].astype(np.float32) / np.float32(255)
        kept = shown if self.points == "seen" else finite
        return Sample(
            self.xyz[kept],
            features=np.concatenate([colors, self.intensity[:, None]], axis=1)[kept],
            path=self.name,
            instance=np.arange(int(kept.sum())),
            pose=self.pose,
            extras={"origin": np.zeros(3), "places": places[kept], "picture": self.color},
        )
