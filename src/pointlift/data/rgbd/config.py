"""What a run's RGB-D frames are. A pre-training recipe's `data` is this dataclass, field by field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pointlift.data.scene_features import FEATURES

__all__ = ["SEEN", "FrameDataConfig", "SeenPoints", "check_seen"]

# What frames have of a point: intensities where a LiDAR measured them, normals never.
SEEN = tuple(name for name in FEATURES if name != "normals")


class SeenPoints(Protocol):
    """What a network has to know of a recipe's `data`: the features of a point, and the voxels."""

    @property
    def features(self) -> list[str]: ...

    @property
    def voxel_size(self) -> float: ...


def check_seen(features: Sequence[str], nearest: float, farthest: float | None) -> None:
    """Raises ValueError for features that frames do not have, or a range of depths that is none."""
    if not features or any(f not in SEEN for f in features) or len(set(features)) != len(features):
        raise ValueError(
            f"data: features is {list(features)}, expected some of {', '.join(SEEN)}, each once."
        )
    if nearest < 0 or (farthest is not None and farthest <= nearest):
        raise ValueError(
            f"data: nearest and farthest are {nearest} and {farthest}, expected metres, the second beyond "
            "the first."
        )


@dataclass(frozen=True)
class FrameDataConfig:
    """The frames, and what becomes of them before the networks see them.

    The paper (PPKT, section 4.1) names voxels of 2.5 cm, pictures of 480 x 640, every 25th frame, 24 frames a
    step, horizontal flips and random resizes in 2D, and scaling, rotation and elastic distortion in 3D. It
    gives no ranges: those below are PointContrast's, whose protocol it follows (facts 2.1, 2.6).

    Attributes:
        source: "procedural:rooms" (embedded), or "KIND:FOLDER" with a kind of
            `pointlift.data.rgbd.FRAME_SOURCES`.
        every: take every so many frames of each recording.
        features: what the 3D network sees of a point, side by side: "colors" (3, RGB minus 0.5), "xyz",
            "height" (above the frame's lowest points), "one", "ones" (3, in place of colours), "intensity"
            (of scans of a LiDAR).
        voxel_size: edge of a voxel, in metres.
        image_size: (height, width) of the pictures that the 2D network sees.
        nearest, farthest: metres between which depths are taken; null: any.
        max_points: of a frame, drawn at random; null takes all. Networks on points want a bound.
        flip: probability of mirroring a picture left to right, in training. The cloud stays.
        resize: pictures are scaled by a factor from this interval, in training, and cut or filled up to
            image_size at a random place.
        augment_clouds: in training, elastic distortion, rotations (any about z, up to pi/64 about x and y)
            and scaling by 0.9 to 1.1 (PointContrast's, facts 2.6).
        superpixels: about how many segments of one colour every picture is cut into, for
            `transfer.loss: superpixel`; 0: none are made.
        evaluate_on: the split that epochs are evaluated on; null takes "val".
        batch_size: frames per step, over all devices together.
        evaluation_batch: frames per evaluation batch and device, among which pixels are told apart; null
            takes as many as in training.
        keep_features: compute the image network's maps of all frames once, keep them in the run's folder and
            stream them from there; wants pictures as they are (flip 0, resize [1, 1]). A map of a ResNet-50
            takes 2.4 MB for 480 x 640.
        in_memory: read every frame once and keep it; false reads it whenever it is used.
        num_workers: processes that read and augment, per device; results do not depend on it.
    """

    source: str = "procedural:rooms"
    every: int = 1
    features: list[str] = field(default_factory=lambda: ["colors"])
    voxel_size: float = 0.025
    image_size: list[int] = field(default_factory=lambda: [480, 640])
    nearest: float = 0.0
    farthest: float | None = None
    max_points: int | None = None
    flip: float = 0.5
    resize: list[float] = field(default_factory=lambda: [0.8, 1.25])
    augment_clouds: bool = True
    superpixels: int = 0
    evaluate_on: str | None = None
    batch_size: int = 24
    evaluation_batch: int | None = None
    keep_features: bool = False
    in_memory: bool = False
    num_workers: int = 0

    def __post_init__(self) -> None:
        check_seen(self.features, self.nearest, self.farthest)
        if len(self.image_size) != 2 or min(self.image_size) < 8:
            raise ValueError(
                f"data: image_size is {self.image_size}, expected a height and a width of 8 pixels or more."
            )
        if len(self.resize) != 2 or not 0 < self.resize[0] <= self.resize[1]:
            raise ValueError(
                f"data: resize is {self.resize}, expected a lowest and a highest factor above 0."
            )
        if not 0 <= self.flip <= 1:
            raise ValueError(f"data: flip is {self.flip}, expected a probability from 0 to 1.")
        if self.keep_features and (self.flip or self.resize != [1, 1]):
            raise ValueError(
                f"data: keep_features keeps the maps of pictures as they are, but flip is {self.flip} and "
                f"resize {self.resize}: set them to 0 and [1, 1]."
            )
        if not self.voxel_size > 0:
            raise ValueError(f"data: voxel_size is {self.voxel_size}, expected a positive number of metres.")
        for name, low in (
            ("every", 1), ("batch_size", 1), ("max_points", 1), ("evaluation_batch", 1), ("num_workers", 0),
            ("superpixels", 0),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < low:
                raise ValueError(f"data: {name} is {value}, expected {low} or more.")
