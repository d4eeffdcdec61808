"""Where the pictures of objects come from: projected from their clouds, rendered from their meshes,
or ready-made in folders.
"""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from pointlift.core.mesh import Mesh
from pointlift.core.sparse_tensor import PointBatch
from pointlift.data.config import DataConfig
from pointlift.data.dataset import CloudDataset, collate
from pointlift.data.errors import DataError
from pointlift.data.pictures.config import ViewConfig
from pointlift.data.pictures.folders import ViewFolder, match_views
from pointlift.data.sample import Sample
from pointlift.data.training_clouds import preprocessing
from pointlift.data.transforms import Augment
from pointlift.system.atomic import RunWriteError, atomic_write
from pointlift.views import RENDERER, Rig, project_cloud, render_mesh, rig

__all__ = ["FolderViews", "ProjectedViews", "RenderedViews", "ViewSource"]

PROJECTION = 1  # counted up whenever the same cloud and settings give other pixels
REACH = 1.0  # of the clouds, which are in the unit sphere
# beyond these a cloud is in other units: the cameras would stand within it, or see it in a pixel
FARTHEST, NEAREST = 5.0, 0.05
Pictures = npt.NDArray[np.uint8]


class ViewSource(ABC):
    """The pictures of the objects of a dataset, in its order. dataset: the objects. n_views: V.
    Pickles, for the processes of loaders.
    """

    def __init__(self, dataset: CloudDataset, config: ViewConfig, n_views: int) -> None:
        self.dataset, self.config, self.n_views = dataset, config, n_views

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def names(self) -> list[str]:
        """Where every object comes from, for messages."""
        return [path or f"object {i}" for i, path in enumerate(self.dataset.paths)]

    def images(self, indices: Sequence[int], epoch: int | None = None) -> Tensor:
        """(B, V, 3, H, W) float32 in 0-1: the objects at `indices`. epoch:
        of training, for views that are augmented; None: as they are.

        Raises IndexError for an object that is not there,
        and DataError for what is wrong with it or its files.
        """
        bad = [i for i in indices if not 0 <= i < len(self)]
        if bad:
            raise IndexError(f"{self.dataset.name}: object {bad[0]} does not exist, there are {len(self)}")
        if not indices:
            return torch.zeros(0, self.n_views, 3, self.config.size, self.config.size)
        return self._images(list(indices), epoch)

    def prepare(self) -> None:  # noqa: B027  (most sources have nothing to prepare)
        """Find out what pickled copies of this source should not each find out again."""

    @abstractmethod
    def _images(self, indices: list[int], epoch: int | None) -> Tensor: ...

    @abstractmethod
    def renderer(self) -> dict[str, Any]:
        """What makes a picture of an object, as JSON: two sources that differ in it show the same object
        differently.
        """

    @abstractmethod
    def identify(self, index: int) -> bytes:
        """What tells the object at `index` from any other, and from itself after it was changed."""

    @cached_property
    def key(self) -> str:
        """64 hexadecimal digits that change with the renderer, its settings, and any object of the data."""
        total = hashlib.sha256(_json(self.renderer()))
        total.update(_json([self.dataset.classes, self.dataset.labels.tolist()]))
        for index in range(len(self)):
            total.update(hashlib.sha256(self.identify(index)).digest())
        return total.hexdigest()


class ProjectedViews(ViewSource):
    """Depth pictures of clouds, or their colours. data: how the clouds are prepared; seed:
    of the augmentation.

    Raises ValueError for cameras and settings that do not fit together,
    DataError where colours are asked for and the first cloud has none.
    """

    def __init__(self, dataset: CloudDataset, config: ViewConfig, data: DataConfig, seed: int) -> None:
        # a dataset's axis is one of the three
        self.rig = rig(config.rig, dataset.up_axis)  # type: ignore[arg-type]
        super().__init__(dataset, config, len(self.rig))
        self.colored = config.kind == "projected-color"
        self.data = replace(data, features="own" if self.colored else "xyz")
        self.clean = Augment(preprocessing(self.data, 3, training=False), 0)
        self.augmented = Augment(preprocessing(self.data, 3, training=True), seed) if config.augment else None
        # refuses what does not fit, before it is used
        self._project(PointBatch.from_list([torch.zeros(1, 3)], [torch.zeros(1, 3)]))
        if self.colored and len(dataset):
            self._sample(0)  # as data without colours

    def _images(self, indices: list[int], epoch: int | None) -> Tensor:
        if epoch is None or self.augmented is None:
            return self._project(collate([self._prepared(i) for i in indices]))
        return self._project(collate([self.augmented(self._sample(i), epoch, i) for i in indices]))

    def _project(self, cloud: PointBatch) -> Tensor:
        config = self.config
        if self.colored:
            return project_cloud(cloud, self.rig, config.size, cloud.features, config.splat)
        depths = project_cloud(cloud, self.rig, config.size, splat=config.splat, mode=config.mode)
        return shaded(depths, self.rig, config.shade).expand(-1, -1, 3, -1, -1)

    def _sample(self, index: int) -> Sample:
        sample = self.dataset[index]
        colors = sample.features
        if self.colored and (
            colors is None or colors.shape[1] != 3 or (len(colors) and (colors.min() < 0 or colors.max() > 1))
        ):
            got = (
                "no features"
                if colors is None
                else f"{colors.shape[1]} features from {colors.min():g} to {colors.max():g}"
            )
            raise DataError(
                f"{self.names[index]}: has {got}, but 3 colours in 0-1 are expected with views.kind "
                "projected-color; use projected, or clouds with colours (procedural:shapes?features=color, "
                "meshes:FOLDER?use=colors, scanobjectnn:FOLDER?colors=true)"
            )
        return sample

    def _prepared(self, index: int) -> Sample:
        """The cloud as it is seen without augmentation. Raises DataError for one that the cameras cannot take
        in.
        """
        sample = self.clean(self._sample(index), 0, index)
        reach = float(np.sqrt((sample.xyz.astype(np.float64) ** 2).sum(1).max())) if len(sample) else REACH
        if not NEAREST <= reach <= FARTHEST:
            raise DataError(
                f"{self.names[index]}: reaches {reach:.3g} from the origin, about {REACH:g} is expected "
                "where its pictures are taken; use data.normalise unit-sphere"
            )
        return sample

    def renderer(self) -> dict[str, Any]:
        config = self.config
        shared = {
            "version": PROJECTION,
            "kind": config.kind,
            "rig": config.rig,
            "up": self.dataset.up_axis,
            "size": config.size,
        }
        drawn = {} if self.colored else {"mode": config.mode, "shade": config.shade}
        return {
            **shared,
            **drawn,
            "splat": config.splat,
            "n_points": self.data.n_points,
            "normalise": self.data.normalise,
        }

    def identify(self, index: int) -> bytes:
        sample = self.clean(self._sample(index), 0, index)
        return sample.xyz.tobytes() + (
            sample.features.tobytes() if self.colored and sample.features is not None else b""
        )


class RenderedViews(ViewSource):
    """Shaded pictures of meshes, rendered once and kept as (V, H, W, 3) uint8,
    one memory-mapped file per object.

    Any number of processes and runs may share a cache:
    a file is named by the renderer, its settings and the mesh, and appears whole.
    cache: None renders anew every time, to the same pixels. Raises DataError where the dataset has no meshes.
    """

    def __init__(self, dataset: CloudDataset, config: ViewConfig, cache: Path | None) -> None:
        if dataset.meshes is None and len(dataset):
            dataset.mesh(0)  # says what to do about it
        self.rig = rig(config.rig, dataset.up_axis)  # type: ignore[arg-type]
        super().__init__(dataset, config, len(self.rig))
        self.cache = cache
        self._known: dict[int, bytes] = {}

    def prepare(self) -> None:
        for index in range(len(self)) if self.cache is not None else ():
            self.identify(index)

    def _images(self, indices: list[int], epoch: int | None) -> Tensor:
        pictures = np.stack([self._pictures(i) for i in indices])
        return torch.from_numpy(pictures).permute(0, 1, 4, 2, 3).float() / 255.0

    def _pictures(self, index: int) -> Pictures:
        """(V, H, W, 3), from the cache where they are there."""
        if self.cache is None:
            return self._rendered(index)
        name = hashlib.sha256(_json(self.renderer()) + self.identify(index)).hexdigest()[:32]
        file = self.cache / name[:2] / f"{name}.npy"
        kept = _kept(file, (self.n_views, self.config.size, self.config.size, 3))
        if kept is not None:
            return kept
        pictures = self._rendered(index)
        try:
            with atomic_write(file) as temporary:
                np.save(temporary, pictures)
        except OSError as error:
            raise RunWriteError(
                f"{file} could not be written ({error.strerror or error}): make room, "
                "or name another views.cache."
            ) from error
        return pictures

    def _rendered(self, index: int) -> Pictures:
        try:
            images = render_mesh(
                self.dataset.mesh(index), self.rig, self.config.size, colors=self.config.colors
            )
        except DataError:
            raise
        except ValueError as error:
            raise DataError(f"{self.names[index]}: {error}") from error
        pictures: Pictures = (images * 255.0).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        return pictures

    def renderer(self) -> dict[str, Any]:
        config = self.config
        return {
            "version": RENDERER, "kind": config.kind, "rig": config.rig, "up": self.dataset.up_axis,
            "size": config.size, "colors": config.colors,
        }  # fmt: skip

    def identify(self, index: int) -> bytes:
        """A mesh file's place, size and time of change (not those of materials in files beside it); where
        clouds are from other files, or from none, everything that is in the mesh."""
        if index not in self._known:
            path = Path(self.dataset.paths[index])
            stated = (
                path.suffix.lower() in (".off", ".obj", ".ply", ".stl", ".glb", ".gltf") and path.is_file()
            )
            self._known[index] = _stamp([path]) if stated else _mesh_digest(self.dataset.mesh(index))
        return self._known[index]


class FolderViews(ViewSource):
    """Ready-made pictures of a folder, read when they are asked for;
    paired with the clouds by name (`match_views`).

    split: "train" or "test", the folders below the classes that these objects are in.
    Raises DataError as `ViewFolder` and `match_views`.
    """

    def __init__(self, dataset: CloudDataset, config: ViewConfig, split: str) -> None:
        assert config.folder is not None
        self.files = ViewFolder(config.folder, split, config.n_views, dataset.classes)
        super().__init__(dataset, config, self.files.n_views)
        self.matched = match_views(dataset, self.files)

    def _images(self, indices: list[int], epoch: int | None) -> Tensor:
        stacked = np.stack([self.files.images(int(self.matched[i])) for i in indices])
        images = torch.from_numpy(stacked).permute(0, 1, 4, 2, 3).float() / 255.0
        size = self.config.size
        if tuple(images.shape[-2:]) == (size, size):
            return images
        flat = functional.interpolate(
            images.flatten(0, 1), (size, size), mode="bilinear", antialias=True, align_corners=False
        )
        return flat.reshape(len(indices), self.n_views, 3, size, size).clamp(0, 1)

    def renderer(self) -> dict[str, Any]:
        return {
            "version": 1,
            "kind": "folder",
            "n_views": self.n_views,
            "size": self.config.size,
            "from": list(self.files.size),
        }

    def identify(self, index: int) -> bytes:
        return _stamp(self.files.paths(int(self.matched[index])))


def shaded(depths: Tensor, cameras: Rig, shade: str) -> Tensor:
    """Depth pictures of clouds in the unit sphere, background 0 -> brightness in 0-1,
    see `ViewConfig.shade`.
    """
    if shade == "depth":
        return (depths / (cameras.distance + REACH)).clamp(0, 1)
    near = ((depths - (cameras.distance - REACH)) / (2 * REACH)).clamp(0, 1)
    return torch.where(depths > 0, 1.0 - 0.8 * near, torch.zeros(()))


def _kept(file: Path, shape: tuple[int, ...]) -> Pictures | None:
    """The renderings in a file of the cache; None where there is none that is whole,
    so that they are made again.
    """
    if not file.is_file():
        return None
    try:
        pictures: Pictures = np.load(file, mmap_mode="r")
    except (ValueError, EOFError):  # cut off by something else than this module
        return None
    return pictures if pictures.shape == shape and pictures.dtype == np.uint8 else None


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _stamp(paths: Sequence[Path]) -> bytes:
    """Places, sizes and times of change of files: archives give files of one name and size the same time,
    so names alone do not tell.
    """
    stats = [os.stat(path) for path in paths]
    return _json([[os.path.abspath(path), s.st_size, s.st_mtime_ns] for path, s in zip(paths, stats)])


def _mesh_digest(mesh: Mesh) -> bytes:
    total = hashlib.sha256()
    for name in ("vertices", "faces", "vertex_colors", "face_colors", "uv", "texture"):
        value = getattr(mesh, name)
        total.update(f"{name} {None if value is None else tuple(value.shape)}".encode())
        if value is not None:
            total.update(value.contiguous().numpy().tobytes())
    return total.digest()
