"""A sequence of labelled point clouds, in memory or read when asked for, and how a batch is made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from pointlift.core.mesh import Mesh
from pointlift.core.sparse_tensor import PointBatch
from pointlift.data.errors import DataError
from pointlift.data.part_labels import PartLabels
from pointlift.data.sample import Sample
from pointlift.data.scene_labels import SceneLabels

__all__ = ["CloudDataset", "collate"]

UP_AXES = ("x", "y", "z")
Item = TypeVar("Item")


class CloudDataset(Dataset[Sample]):
    """Labelled clouds with the names of their classes.

    Args:
        samples: the clouds, in memory.
        classes: class names; ``Sample.label`` indexes them.
        name: what the dataset is called in messages and reports.
        up_axis: which axis points up: ``"x"``, ``"y"`` or ``"z"``.
        meshes: ``meshes(i)`` is the surface that cloud ``i`` was sampled from, where there are surfaces. It
            may be read when it is asked for, and stands as its file has it: turned as the cloud is, but not
            centred or scaled with it.

    Use :meth:`from_paths` for clouds that are read when they are asked for.

    Attributes:
        part_labels: which parts (``Sample.part``) the objects of every class have,
            where points are labelled; set by readers.
        scene_labels: the classes of the points of scenes (``Sample.part``); set by readers of scenes, whose
            clouds have no class themselves (``Sample.label`` is -1).
        columns: what the features of the points are, side by side, such as ``("colors", "normals")``;
            empty where readers do not say.
        mesh_points: how many points are drawn on a mesh, where files may be meshes.
        account: what was read and passed over, and which split this is, in a line; empty where the layout
            leaves no doubt.

    Raises:
        ValueError: a label outside ``-1 .. len(classes) - 1``, or an unknown up axis.
    """

    meshes: Callable[[int], Mesh] | None
    part_labels: PartLabels | None = None
    scene_labels: SceneLabels | None = None
    columns: tuple[str, ...] = ()
    mesh_points: int | None = None
    account: str = ""

    def __init__(
        self,
        samples: Sequence[Sample],
        classes: Sequence[str],
        name: str = "clouds",
        up_axis: str = "y",
        meshes: Callable[[int], Mesh] | None = None,
    ) -> None:
        items = list(samples)
        labels = np.array([s.label for s in items], dtype=np.int64)
        self._set(items.__getitem__, labels, classes, name, up_axis, [s.path for s in items], meshes)

    @classmethod
    def from_paths(
        cls,
        paths: Sequence[str],
        labels: Sequence[int] | npt.NDArray[np.int64],
        read: Callable[[str, int, int], Sample],
        classes: Sequence[str],
        name: str = "clouds",
        up_axis: str = "y",
        meshes: Callable[[int], Mesh] | None = None,
    ) -> CloudDataset:
        """A dataset that calls ``read(path, label, index)`` each time a cloud is asked for.

        ``read`` and ``meshes`` must be picklable (a module-level function, a partial of one, or a callable
        object) to be used with DataLoader workers, and must not depend on anything but their arguments.
        """
        if len(paths) != len(labels):
            raise ValueError(
                f"{name}: {len(paths)} paths but {len(labels)} labels, one label per path is expected"
            )
        dataset = cls.__new__(cls)
        fixed = np.asarray(labels, dtype=np.int64)
        dataset._set(_Lazy(list(paths), fixed, read), fixed, classes, name, up_axis, list(paths), meshes)
        return dataset

    def _set(
        self,
        get: Callable[[int], Sample],
        labels: npt.NDArray[np.int64],
        classes: Sequence[str],
        name: str,
        up_axis: str,
        paths: list[str],
        meshes: Callable[[int], Mesh] | None = None,
    ) -> None:
        if up_axis not in UP_AXES:
            raise ValueError(f"{name}: up_axis is {up_axis!r}, one of 'x', 'y', 'z' is expected")
        bad = np.flatnonzero((labels < -1) | (labels >= len(classes)))
        if len(bad):
            raise ValueError(
                f"{name}: label {labels[bad[0]]} of cloud {bad[0]} ({paths[bad[0]] or 'in memory'}) is out "
                f"of range, 0 to {len(classes) - 1} is expected ({len(classes)} classes)"
            )
        self._get, self.labels, self.paths = get, labels, paths
        self.classes, self.name, self.up_axis, self.meshes = tuple(classes), name, up_axis, meshes

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name}: cloud {index} does not exist, there are {len(self)}")
        return self._get(int(index) % len(self))

    def draw(self, index: int, rng: np.random.Generator) -> Sample:
        """Cloud ``index`` as one pass of training sees it, with ``rng`` as the only randomness.

        The same as ``dataset[index]``, except in datasets whose clouds are made anew for every pass,
        such as crops of images.
        """
        return self[index]

    def mesh(self, index: int) -> Mesh:
        """The surface of object ``index``, see ``meshes``.

        Raises:
            IndexError: an index outside the dataset.
            DataError: the dataset has clouds only, or the mesh cannot be read.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name}: object {index} does not exist, there are {len(self)}")
        if self.meshes is None:
            raise DataError(
                f"{self.name}: has clouds only, no meshes; render from meshes:<folder>, "
                "or project the clouds instead"
            )
        return self.meshes(int(index) % len(self))

    def subset(self, indices: Iterable[int]) -> CloudDataset:
        """The clouds at ``indices``, in that order, with their meshes; classes stay as they are.

        Raises:
            IndexError: an index outside the dataset.
        """
        chosen = np.asarray(list(indices), dtype=np.int64)
        bad = chosen[(chosen < -len(self)) | (chosen >= len(self))]
        if len(bad):
            raise IndexError(f"{self.name}: cloud {bad[0]} does not exist, there are {len(self)}")
        chosen = chosen % max(len(self), 1)
        part = CloudDataset.__new__(CloudDataset)
        paths = [self.paths[i] for i in chosen]
        meshes = None if self.meshes is None else _Picked(self.meshes, chosen)
        part._set(
            _Picked(self._get, chosen),
            self.labels[chosen],
            self.classes,
            self.name,
            self.up_axis,
            paths,
            meshes,
        )
        return part._like(self)

    def in_memory(self) -> CloudDataset:
        """The same clouds, all read now: for data that are read in every epoch and fit into memory.
        Meshes stay where they are.

        Raises:
            DataError: whatever is wrong with the first cloud that cannot be read.
        """
        held = CloudDataset(
            [self[i] for i in range(len(self))], self.classes, self.name, self.up_axis, self.meshes
        )
        return held._like(self)

    def _like(self, other: CloudDataset) -> CloudDataset:
        """Itself, with what a reader said of the dataset that it is made from."""
        self.part_labels, self.scene_labels = other.part_labels, other.scene_labels
        self.columns = other.columns
        self.mesh_points, self.account = other.mesh_points, other.account
        return self

    def counts(self) -> npt.NDArray[np.int64]:
        """``(classes,)``: number of clouds of every class; clouds without a label are not counted."""
        return np.bincount(self.labels[self.labels >= 0], minlength=len(self.classes)).astype(np.int64)

    def __repr__(self) -> str:
        return (
            f"CloudDataset({self.name}: {len(self)} clouds, {len(self.classes)} classes, {self.up_axis} up)"
        )


class _Lazy:
    """Reads one cloud per call; an object rather than a closure so that workers can pickle it."""

    def __init__(
        self, paths: list[str], labels: npt.NDArray[np.int64], read: Callable[[str, int, int], Sample]
    ) -> None:
        self.paths, self.labels, self.read = paths, labels, read

    def __call__(self, index: int) -> Sample:
        return self.read(self.paths[index], int(self.labels[index]), index)


class _Picked(Generic[Item]):
    """Maps positions of a subset to positions of the whole."""

    def __init__(self, get: Callable[[int], Item], chosen: npt.NDArray[np.int64]) -> None:
        self.get, self.chosen = get, chosen

    def __call__(self, index: int) -> Item:
        return self.get(int(self.chosen[index]))


def collate(samples: Sequence[Sample]) -> PointBatch:
    """Join clouds into one batch. What not every cloud has is left out, but for features.

    Features are kept when every cloud has them, with the same number of channels. In ``labels``: ``"class"``
    ``(B,)`` int64, ``"part"`` and ``"instance"`` ``(N,)``, ``"boxes"`` and ``"box_labels"`` lists of
    ``(K, 7)`` and ``(K,)``, one per cloud. In ``extras``: ``"pose"`` ``(B, 4, 4)`` float64, and of the extras
    of the clouds arrays of one shape as a tensor ``(B, ...)``, of several shapes as a list, samples as a
    batch of their own.

    Raises:
        ValueError: no clouds; features in some clouds only; different numbers of channels.
    """
    if not samples:
        raise ValueError("cannot make a batch of 0 clouds, at least one is expected")
    with_features = [s.features for s in samples if s.features is not None]
    if with_features and len(with_features) != len(samples):
        without = next(
            s.path or f"cloud {i} of the batch" for i, s in enumerate(samples) if s.features is None
        )
        raise ValueError(
            f"{without} has no features but other clouds of the batch have; give all of them features or none"
        )
    channels = sorted({f.shape[1] for f in with_features})
    if len(channels) > 1:
        raise ValueError(
            f"clouds of one batch have {channels} feature channels, one common number is expected"
        )
    labels: dict[str, Any] = {"class": torch.tensor([s.label for s in samples], dtype=torch.int64)}
    for name in ("part", "instance"):
        if (values := _of_all(samples, name)) is not None:
            labels[name] = torch.from_numpy(np.concatenate(values))
    for name in ("boxes", "box_labels"):
        if (values := _of_all(samples, name)) is not None:
            labels[name] = [torch.from_numpy(value) for value in values]
    xyz = [torch.from_numpy(np.ascontiguousarray(s.xyz)) for s in samples]
    features = [torch.from_numpy(np.ascontiguousarray(f)) for f in with_features] or None
    return PointBatch.from_list(xyz, features, labels, _join_extras(samples))


def _of_all(samples: Sequence[Sample], name: str) -> list[Any] | None:
    """A field of every sample; None where one of them lacks it."""
    values = [getattr(s, name) for s in samples]
    return None if any(value is None for value in values) else values


def _join_extras(samples: Sequence[Sample]) -> dict[str, Any]:
    poses = _of_all(samples, "pose")
    joined: dict[str, Any] = {} if poses is None else {"pose": torch.from_numpy(np.stack(poses))}
    for name in samples[0].extras:
        values = [s.extras[name] for s in samples if name in s.extras]
        if len(values) == len(samples):
            joined[name] = collate(values) if isinstance(values[0], Sample) else _stacked(values)
    return joined


def _stacked(values: Sequence[npt.NDArray[Any]]) -> torch.Tensor | list[torch.Tensor]:
    if len({np.shape(value) for value in values}) == 1:
        return torch.from_numpy(np.stack(values))
    return [torch.from_numpy(np.ascontiguousarray(value)) for value in values]
