"""What a run's pairs of views are. A PointContrast recipe's `data` is this dataclass, field by field."""

from __future__ import annotations

from dataclasses import dataclass, field

from pointlift.data.rgbd.config import check_seen

__all__ = ["ViewPairConfig"]


@dataclass(frozen=True)
class ViewPairConfig:
    """Frames of one recording that see the same place; the defaults are PointContrast's (facts 2.4).

    Attributes:
        source: "procedural:rooms" (embedded), or "KIND:FOLDER" with a kind of
            `pointlift.data.rgbd.FRAME_SOURCES`; frames must have poses.
        every: take every so many frames of each recording; PointContrast takes every 25th of ScanNet's.
        overlap: share of one view's points that must be near the other's for the two to be a pair.
        overlap_voxel: edge in metres of the voxels that overlap is computed on. overlap_reach: in such edges,
            how far apart near points are.
        most_pairs: of a split, drawn at random; null takes all. 20,000 of ScanNet's 843,000 are said to give
            most of the gain.
        features: what the network sees of a point: "ones" (3 channels, no colours, as in PointContrast),
            "colors" and the others of PPKT's data.
        voxel_size: edge of a voxel, in metres; every view keeps one point in each.
        match_reach: in voxels, how far apart matching points are.
        nearest, farthest: metres between which depths are taken; null: any.
        rotate: turn every view by up to 180 degrees about a random axis through its mean.
        scale: factors that views are scaled by, in training.
        jitter, jitter_p: deviation of the noise on the features, in training, and how probable it is.
        evaluate_on: the split that epochs are evaluated on; null takes "val".
        batch_size: pairs per step, over all devices together.
        evaluation_batch: pairs per evaluation batch and device; null takes as many as in training.
        in_memory: read every frame once and keep it; false reads it whenever it is used.
        num_workers: processes that read and augment, per device; results do not depend on it.
    """

    source: str = "procedural:rooms"
    every: int = 1
    overlap: float = 0.3
    overlap_voxel: float = 0.05
    overlap_reach: float = 1.5
    most_pairs: int | None = None
    features: list[str] = field(default_factory=lambda: ["ones"])
    voxel_size: float = 0.025
    match_reach: float = 1.5
    nearest: float = 0.0
    farthest: float | None = None
    rotate: bool = True
    scale: list[float] = field(default_factory=lambda: [1.0, 1.0])
    jitter: float = 0.01
    jitter_p: float = 0.95
    evaluate_on: str | None = None
    batch_size: int = 32
    evaluation_batch: int | None = None
    in_memory: bool = False
    num_workers: int = 0

    def __post_init__(self) -> None:
        check_seen(self.features, self.nearest, self.farthest)
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"data: scale is {self.scale}, expected a lowest and a highest factor above 0.")
        for name in ("overlap_voxel", "overlap_reach", "voxel_size", "match_reach"):
            if not getattr(self, name) > 0:
                raise ValueError(f"data: {name} is {getattr(self, name)}, expected a positive number.")
        for name in ("overlap", "jitter_p"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"data: {name} is {getattr(self, name)}, expected a share from 0 to 1.")
        for name, low in (
            ("every", 1), ("batch_size", 1), ("most_pairs", 1), ("evaluation_batch", 1), ("num_workers", 0),
            ("jitter", 0),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < low:
                raise ValueError(f"data: {name} is {value}, expected {low} or more.")
