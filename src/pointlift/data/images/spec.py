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
        title, what, where, licence, layout: of its entry of ``pointlift data list``, see
            :class:`~pointlift.data.sources.spec.KnownDataset`, whose name is the title.
        place: what a source has behind the name; other than ``"<folder>"`` it is none.
    """

    name: str
    read: Callable[..., ImageSet]
    title: str
    what: str
    where: str
    licence: str
    layout: str
    place: str = "<folder>"

    @property
    def folder(self) -> bool:
        """Whether the place is one."""
        return self.place == "<folder>"

    @property
    def about(self) -> KnownDataset:
        """Its entry of ``pointlift data list``."""
        source = f"{self.name}:{self.place}"
        return KnownDataset(self.title, source, self.what, self.where, self.licence, self.layout)

    def how_to_get(self, root: Path) -> str:
        """The sentence for a folder in which nothing was found."""
        state = "holds none of its files" if root.is_dir() else "does not exist"
        return (
            f"{root} {state}; {self.title} ({self.what}; licence: "
            f"{self.licence}) comes from {self.where} and is expected as {self.layout}"
        )
