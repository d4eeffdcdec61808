"""What a run's clouds are. A recipe's `data` is this dataclass, field by field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["DataConfig"]


@dataclass(frozen=True)
class DataConfig:
    """The clouds, and what becomes of them before the network sees them.

    Attributes:
        source: "procedural:shapes" (embedded), "modelnet:FOLDER" (ModelNet's h5, txt or off layout),
            "folder:FOLDER" (class/cloud.ply or split/class/cloud.ply), "meshes:FOLDER" (the same of meshes,
            which may also be rendered), "scanobjectnn:FOLDER?variant=...", "shapenetpart:FOLDER",
            "pixels:IMAGES" (pictures as clouds of their pixels, see docs/pixel_clouds.md) or a plain folder,
            whose kind is detected.
        n_points: at most so many points of a cloud; null keeps all. In training they are drawn anew for
            every pass.
        thinning: how clouds with more points are thinned out in evaluation, and by the commands that use
            the checkpoint: "random" (drawn once, the same for all of them), "fps" (farthest point sampling)
            or "first" (the first of the file, as the released code of PointNet and its successors; of a scan
            in the order of its scanner, these are one slice of the object).
        fps_points, read_points: both or neither (null). In training, read_points points of a cloud are read
            or sampled from its mesh, farthest point sampling from a random one on thins them to fps_points,
            and the random n_points are drawn from these: RS-CNN has 1200 of 2048 (facts 5.4). A cloud with
            fewer points keeps what it has.
        normalise: "unit-sphere" (centroid to the origin, farthest point to distance 1) or "none".
        features: "xyz" (the paper), "own" (those of the files) or "xyz+own".
        voxel_size: edge of a voxel, in the units of the clouds after normalisation.
        shots, share: train on so many clouds of every class, or on a share (0-1) of every class;
            null uses all.
        split_seed: of these draws and of val_fraction; null takes the run's seed.
        val_fraction: hold out so much of every training class to choose epochs by, and look at the test split
            once, at the end; null evaluates on the test split after every epoch, as the paper does. It is
            taken from the clouds that shots or share have drawn: 10 shots and 0.2 train on 8 of a class.
        augment: change the training clouds at random, as `augmentation` says.
        augmentation: "image2point" (its ModelNet augmentation: shuffle, scale, shift, jitter) or
            "scale-shift" (every axis times 2/3-3/2, plus up to 0.2, shuffled: PointCMT, DGCNN, RS-CNN,
            PointMLP; facts 4.2, 5.3-5.5).
        batch_size: clouds per step, over all devices together.
        in_memory: read every file once and keep it; false reads it whenever it is used,
            for data larger than memory.
        num_workers: processes that read and augment, per device; results do not depend on it.
        train_per_class, test_per_class, shapes_seed: size and seed of the embedded shapes.
        classes: which of the embedded shapes' classes, in label order; null takes all.
    """

    source: str = "procedural:shapes"
    n_points: int | None = 1024
    normalise: Literal["unit-sphere", "none"] = "unit-sphere"
    features: Literal["xyz", "own", "xyz+own"] = "xyz"
    voxel_size: float = 0.05
    shots: int | None = None
    share: float | None = None
    split_seed: int | None = None
    val_fraction: float | None = None
    augment: bool = True
    augmentation: Literal["image2point", "scale-shift"] = "image2point"
    batch_size: int = 32
    in_memory: bool = True
    num_workers: int = 0
    train_per_class: int = 64
    test_per_class: int = 32
    shapes_seed: int = 0
    classes: list[str] | None = None
    fps_points: int | None = None
    read_points: int | None = None
    thinning: Literal["random", "fps", "first"] = "random"

    def __post_init__(self) -> None:
        if self.shots is not None and self.share is not None:
            raise ValueError("data: shots and share are both given, expected at most one of them.")
        if self.batch_size < 2:
            raise ValueError(
                f"data: batch_size is {self.batch_size}, expected at least 2 (batch normalisation needs more "
                "than one cloud)."
            )
        if self.n_points is not None and self.n_points < 1:
            raise ValueError(
                f"data: n_points is {self.n_points}, expected at least 1, or null for all points."
            )
        chosen, read = self.fps_points, self.read_points
        if (chosen, read) != (None, None) and not 0 < (self.n_points or 0) <= (chosen or 0) <= (read or 0):
            raise ValueError(
                f"data: n_points is {self.n_points}, fps_points {chosen} and read_points {read}, expected "
                "all three with n_points <= fps_points <= read_points, or null for the last two."
            )
        if not self.voxel_size > 0:
            raise ValueError(
                f"data: voxel_size is {self.voxel_size}, expected a positive number in the units of the "
                "clouds."
            )
        if self.num_workers < 0:
            raise ValueError(f"data: num_workers is {self.num_workers}, expected 0 or more.")
