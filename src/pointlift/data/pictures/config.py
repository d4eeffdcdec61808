"""Which pictures of objects a run sees. A recipe's `views` is this dataclass, field by field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["ViewConfig"]


@dataclass(frozen=True)
class ViewConfig:
    """The pictures of an object.

    Attributes:
        kind: "rendered", its mesh with shading (the paper on ModelNet40, for data with meshes); "projected",
            depth pictures of its cloud (the paper on ScanObjectNN); "projected-color", its cloud with the
            colours of its points; "folder", ready-made pictures; "auto", rendered where the data have
            meshes, else projected.
        rig: the cameras: "rotationnet-20", "mvcnn-12", "simpleview-6" or "axis-3", see `pointlift.views.rig`.
        size: height and width in pixels. Pictures of a folder are resized to it.
        splat: pixels that a point covers along each axis; with mode "harmonic" 1 or an even number.
        mode: of depth pictures: "harmonic", SimpleView's mean of the depths in a pixel (facts 5.6),
            or "z-buffer", the nearest.
            Coloured points are always z-buffered.
        shade: what a depth picture shows: "depth", the depths over the largest possible, background 0; or
            "closeness", near points bright (1), far ones dark (0.2).
        colors: render meshes in their own colours, where they have any; false renders all of them grey.
        folder: of ready-made pictures, <class>/{train,test}/<object>_001.png and on. n_views: pictures of
            every object there; null takes as many as the first object has.
        cache: folder in which renderings are kept, one file per object, for any number of runs;
            null keeps them in the run's folder.
        augment: the image network trains on clouds that were augmented as data.augment says before they are
            projected; evaluation and features for the student always see the clouds as they are. The paper
            names no augmentation.
    """

    kind: Literal["auto", "rendered", "projected", "projected-color", "folder"] = "projected"
    rig: str = "simpleview-6"
    size: int = 128
    splat: int = 1
    mode: Literal["harmonic", "z-buffer"] = "harmonic"
    shade: Literal["depth", "closeness"] = "depth"
    colors: bool = True
    folder: str | None = None
    n_views: int | None = None
    cache: str | None = None
    augment: bool = False

    def __post_init__(self) -> None:
        if self.size < 1 or self.splat < 1:
            raise ValueError(f"views: size is {self.size} and splat {self.splat}, expected at least 1 pixel.")
        if self.augment and not self.kind.startswith(("projected", "auto")):
            raise ValueError(
                f"views: augment is for projected clouds, but kind is {self.kind!r}: leave it out."
            )
        if (self.kind == "folder") != (self.folder is not None):
            raise ValueError(
                f"views: kind is {self.kind!r} and folder {self.folder!r}, "
                "expected a folder with kind folder, and only there."
            )
        if self.n_views is not None and (self.n_views < 1 or self.kind != "folder"):
            raise ValueError(
                f"views: n_views is {self.n_views} with kind {self.kind!r}, expected null, "
                "or with kind folder at least 1."
            )
