"""What a run's scenes are. A scene recipe's `data` is this dataclass, field by field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pointlift.data.files.reader import OWN
from pointlift.data.scene_features import COLUMNS, FEATURES, Frame

__all__ = ["SceneDataConfig"]

Crop = Literal["none", "sphere", "random"]


@dataclass(frozen=True)
class SceneDataConfig:
    """The scenes, and what becomes of them before the network sees them.

    Attributes:
        source: "procedural:rooms" or "procedural:streets" (embedded), "s3dis:FOLDER", "semantickitti:FOLDER",
            "scannet:FOLDER", "pointcept:FOLDER" (what `data prepare` writes) or "scenes:FOLDER" (your own);
            the folder alone will do, too.
        features: what the network sees of a point, side by side: "xyz" (3, as augmented, in the scene's own
            frame), "height" (1, above the scene's floor), "one" (a constant), "colors" (3, RGB minus 0.5),
            "normals" (3), "intensity" (1). Null takes "height" and every column that the scenes have.
        frame: of every scene: "floor" (x and y from their medians, z from its 1 % quantile, so that one point
            far away moves nothing), "mean" (the released code's, facts 1.8) or "none" (as the files have it,
            e.g. of a sensor).
        voxel_size: edge of a voxel, in metres.
        evaluate_on: the split that epochs are evaluated on; null takes "val" where the source has one, else
            "test".
        scenes: train on a share (0-1) of the training scenes, at least one; null on all.
        labels: learn from a share (0-1) of the labelled points of every training scene, at least one of each;
            the others are seen without a label. Null: all. More points contain the fewer, as more scenes do,
            and both follow from the seed and the files alone, so that all networks learn from the same.
        val_fraction: hold out a share of the scenes that are trained on to choose epochs by, and look at
            `evaluate_on` once, at the end.
        split_seed: of these three draws; null takes the run's seed.
        repeat: how often an epoch passes over every scene, each time with another crop and augmentation.
        crop: of training scenes with more than max_voxels occupied voxels: "sphere" (those nearest to a
            random point), "random" (any; facts 1.9) or "none" (whole scenes; max_voxels is not looked at).
        max_voxels: see there.
        one_per_voxel: in training, keep one random point of every voxel, as the papers' released codes do;
            false gives a voxel the mean of its points, as in evaluation.
        augmentation: of training scenes, one of `pointlift.data.scene_transforms.SCENE_AUGMENTATIONS`,
            or "none".
        batch_size: scenes (or crops) per step, over all devices together.
        in_memory: read every scene once and keep it; false reads it whenever it is used.
        num_workers: processes that read and augment, per device; results do not depend on it.
    """

    source: str = "procedural:rooms"
    features: list[str] | None = None
    frame: Frame = "floor"
    voxel_size: float = 0.05
    evaluate_on: str | None = None
    scenes: float | None = None
    labels: float | None = None
    val_fraction: float | None = None
    split_seed: int | None = None
    repeat: int = 1
    crop: Crop = "sphere"
    max_voxels: int = 80_000
    one_per_voxel: bool = False
    augmentation: str = "none"
    batch_size: int = 4
    in_memory: bool = True
    num_workers: int = 0

    def __post_init__(self) -> None:
        given = self.features if self.features is not None else ["height"]
        if not given or any(name not in FEATURES for name in given) or len(set(given)) != len(given):
            raise ValueError(
                f"data: features is {given}, expected some of {', '.join(FEATURES)}, each once, or null."
            )
        for name, top in (("scenes", 1), ("labels", 1), ("val_fraction", 0.999)):
            value = getattr(self, name)
            if value is not None and not 0 < value <= top:
                raise ValueError(f"data: {name} is {value}, expected a share between 0 and 1.")
        for name, low in (("batch_size", 1), ("repeat", 1), ("max_voxels", 2), ("num_workers", 0)):
            if getattr(self, name) < low:
                raise ValueError(f"data: {name} is {getattr(self, name)}, expected {low} or more.")
        if not self.voxel_size > 0:
            raise ValueError(f"data: voxel_size is {self.voxel_size}, expected a positive number of metres.")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the files that `features` needs, in the order in which readers give them;
        ("own",) for all that they have.
        """
        if self.features is None:
            return (OWN,)
        return tuple(name for name in COLUMNS if name in self.features)

    def seen(self, columns: tuple[str, ...]) -> tuple[str, ...]:
        """What the network sees of the points of scenes that have these columns."""
        return ("height", *columns) if self.features is None else tuple(self.features)
