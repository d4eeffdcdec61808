"""What an image dataset declares of itself, in one record at the end of the file that reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pointlift.data.images.image_set import ImageSet
from pointlift.data.sources.spec import KnownDataset

__all__ = ["ImageSpec"]


@dataclass(frozen=True)
class ImageSpec:
    """An image dataset.

    Attributes:
        name: what its sources begin with, ``name:<folder>``.
        read: ``read(place, split=..., **options)``; options of a source string are converted to the types
            that it declares.
        about: its entry of ``pointlift data list``.
        folder: whether the place is one.
    """

    name: str
    read: Callable[..., ImageSet]
    about: KnownDataset
    folder: bool = True

    def how_to_get(self, root: Path) -> str:
        """The sentence for a folder in which nothing was found."""
        state, known = "holds none of its files" if root.is_dir() else "does not exist", self.about
        return (
            f"{root} {state}; {known.name} ({known.what}; licence: "
            f"{known.licence}) comes from {known.where} and is expected as {known.layout}"
        )
