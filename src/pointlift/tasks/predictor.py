"""A checkpoint at work: clouds in, answers out, preprocessed as in its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, overload

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from pointlift.core.sparse_tensor import PointBatch, SparseTensor
from pointlift.data.dataset import CloudDataset, collate
from pointlift.data.errors import DataError
from pointlift.data.files.points import PointFile, read_content, read_points
from pointlift.data.sample import Sample
from pointlift.data.transforms import PickFeatures, Resample, turned, unit_sphere
from pointlift.models import image_network
from pointlift.system.own_code import load_own, named, names_own_code
from pointlift.tasks import TASKS
from pointlift.tasks.task import Float32, Prediction, Task
from pointlift.weights.checkpoints import load, read_metadata, task_of

__all__ = ["Cloud", "Output", "Predictor"]

Cloud: TypeAlias = "str | Path | npt.NDArray[Any] | Tensor | PointFile"


@dataclass(frozen=True)
class Output:
    """What the network says of B clouds. probabilities: (B, classes); features: (B, C), what the output layer
    sees; labels: (B,).
    """

    probabilities: Float32
    features: Float32
    labels: npt.NDArray[np.int64]


class Predictor:
    """A trained network with the preprocessing that its checkpoint names: normalisation, number of points,
    features, voxel size.

    A cloud is a file (a cloud or a mesh), an array (N, 3) of coordinates, or one (N, 3 + C) with what else
    the network was trained to see of a point. A list of clouds gives a list of predictions.

        predictor = Predictor("runs/mine/model.safetensors")
        found = predictor("chair.ply")
        found.label, found.probabilities        # "chair", (classes,) in the order of found.classes
        predictor([xyz, "table.off"])           # two of them
        predictor.embed("chair.ply")            # (C,), what the output layer sees

        predictor = Predictor("runs/parts/model.safetensors")   # of part segmentation
        found = predictor("mug.ply", category="mug")
        found.labels, found.names[found.labels[0]]              # (N,) in the order of the file's points,
        "mug/handle"

    Args:
        checkpoint: a file that pointlift wrote.
        image_model: name or file.py:function of the image model, for networks that were made from one of the
            user's own (a checkpoint never runs code by itself).
        up_axis: which axis of the clouds points up; default: the one of the training data.
        seed: of the points drawn from clouds that have more than the training had, and on meshes.

    Attributes:
        net: the network. metadata: what the checkpoint says of it. classes: names, in the order of the
            logits.
        task: what its answers mean, one of `pointlift.tasks`.

    Raises:
        FileNotFoundError, CheckpointError: as `pointlift.load`.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        image_model: str | None = None,
        up_axis: str | None = None,
        seed: int = 0,
    ) -> None:
        self.checkpoint = str(checkpoint)
        own = (
            None
            if image_model is None
            else image_network(image_model, options=read_metadata(checkpoint).get("image_options"))
        )
        self.net = load(checkpoint, own)
        self.metadata = self.net.metadata
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.net.to(self.device)
        self.classes: tuple[str, ...] = tuple(self.metadata["classes"])
        self.n_points: int | None = self.metadata.get("n_points")
        self.trained_up: str = self.metadata["up_axis"]
        self.up_axis = up_axis or self.trained_up
        self.seed = seed
        self._pick = PickFeatures(self.metadata["features"], int(self.metadata["in_channels"]))

    @cached_property
    def task(self) -> Task:
        """What its answers mean. Raises ValueError for a task that is not in TASKS."""
        name = task_of(self.metadata)
        if name not in TASKS:
            raise ValueError(
                f"{self.checkpoint} is of the task {name!r}, this version of pointlift has "
                f"{', '.join(TASKS)}: upgrade with pip install -U pointlift, or name its class in "
                "pointlift.tasks.TASKS"
            )
        found = load_own(TASKS[name]) if names_own_code(TASKS[name]) else named(TASKS[name])
        return cast(Task, found(self))

    # ---------------------------------------------------------------------- answers

    @overload
    def predict(self, clouds: Cloud, category: str | None = None) -> Any: ...
    @overload
    def predict(self, clouds: list[Cloud] | tuple[Cloud, ...], category: str | None = None) -> list[Any]: ...
    def predict(self, clouds: Any, category: str | None = None) -> Any:
        """What the network says of a cloud, or of each of a list.

        Args:
            clouds: one, or a list.
            category: what the clouds show, for checkpoints of part segmentation.

        Returns:
            Of classifiers a `Classification`: label, probabilities. Of part segmentation a `PartPrediction`:
            labels, names, colors.

        Raises:
            DataError: what is wrong with a file or an array. ValueError: a category that the checkpoint does
                not know.
        """
        self.task.check_category(category)
        many = isinstance(clouds, (list, tuple))
        found: list[Prediction] = self.task.predict(
            [self.read(cloud) for cloud in (clouds if many else [clouds])], category
        )
        return found if many else found[0]

    __call__ = predict

    def embed(self, cloud: Cloud, per: Literal["cloud", "point"] = "cloud") -> Float32:
        """(C,): features of a cloud, what the classifier sees; or (N, C) of its points, the last feature map.

        Raises ValueError for networks without such features.
        """
        self.task.check_embed(per)
        return self.task.embed(self.read(cloud), per)

    # ---------------------------------------------------------------------- preprocessing

    @property
    def trained(self) -> bool:
        """False for what `pointlift lift` wrote: its output layer is random."""
        return bool(self.metadata.get("protocol", {}).get("trained", True))

    @property
    def preprocessing(self) -> dict[str, Any]:
        """For protocols: what is done to a cloud."""
        points = "all" if self.n_points is None else f"first {self.n_points}"
        return {"points": points, "normalisation": self.metadata.get("normalisation", "none")}

    def read(self, cloud: Cloud) -> PointFile:
        """A cloud of at least 2 points.

        Raises DataError in one sentence for everything that is wrong with a file or an array.
        """
        if isinstance(cloud, PointFile):
            found = cloud
        elif isinstance(cloud, (str, Path)):
            mesh = read_content(cloud).faces is not None
            found = read_points(cloud, self.n_points if mesh else None, np.random.default_rng(self.seed))
        else:
            found = _cloud_of(cloud)
        if len(found) < 2:
            raise DataError(f"{found.path}: has {len(found)} point, a shape needs at least 2")
        return found

    def prepare(self, cloud: PointFile) -> Sample:
        """The cloud as the network sees it: turned, normalised, thinned out at random, with features."""
        sample = self._normalised(self._sample(cloud))
        if self.n_points is not None and len(sample) > self.n_points:
            sample = Resample(self.n_points)(sample, np.random.default_rng(self.seed))
        return self._pick(sample, np.random.default_rng(self.seed))

    def prepare_sample(self, sample: Sample) -> Sample:
        """`prepare` for a cloud of a dataset, of which the first points are taken, as the evaluation in
        training does.
        """
        sample = self._normalised(sample)
        if self.n_points is not None and len(sample) > self.n_points:
            sample = Resample(self.n_points, "first")(sample, np.random.default_rng(0))
        return self._pick(sample, np.random.default_rng(0))

    def prepare_dataset(self, dataset: CloudDataset, number: Mapping[int, int]) -> list[Sample]:
        """All clouds of a dataset, turned as in training. number: the checkpoint's label for each of the
        dataset's.

        Raises DataError for a cloud without a class.
        """
        samples: list[Sample] = []
        for index in range(len(dataset)):
            sample = dataset[index]
            if sample.label < 0:
                raise DataError(f"{sample.path}: has no class, evaluation needs labelled clouds")
            xyz = turned(sample.xyz, dataset.up_axis, self.trained_up)
            samples.append(self.prepare_sample(replace(sample, xyz=xyz, label=number[sample.label])))
        return samples

    def every_point(self, cloud: PointFile) -> Float32:
        """(N, 3): all points of a cloud where `prepare` puts those that it keeps."""
        return self._normalised(self._sample(cloud)).xyz

    def _sample(self, cloud: PointFile) -> Sample:
        use = (
            ()
            if self.metadata["features"] == "xyz"
            else [n for n in ("features", "colors", "normals") if getattr(cloud, n) is not None]
        )
        sample = cloud.sample(use=tuple(use))
        return replace(sample, xyz=turned(sample.xyz, self.up_axis, self.trained_up))

    def _normalised(self, sample: Sample) -> Sample:
        return (
            sample
            if self.metadata.get("normalisation") == "none"
            else replace(sample, xyz=unit_sphere(sample.xyz))
        )

    # ---------------------------------------------------------------------- the network

    def batch(self, samples: Sequence[Sample]) -> PointBatch:
        """Prepared clouds on the network's device."""
        return collate(list(samples)).to(self.device)

    @torch.no_grad()
    def run(self, samples: Sequence[Sample], batch_size: int = 32) -> Output:
        """Probabilities and features of prepared clouds."""
        logits: list[Tensor] = []
        features: list[Tensor] = []
        for start in range(0, len(samples), batch_size):
            found = self.net.forward_features(self.batch(samples[start : start + batch_size]))
            features.append(found.float().cpu())
            logits.append(self.net.forward_head(found).float().cpu())
        labels = np.array([s.label for s in samples], dtype=np.int64)
        return Output(torch.cat(logits).softmax(1).numpy(), torch.cat(features).numpy(), labels)

    def check_point_features(self) -> None:
        """Raises DataError for a network that takes the points themselves and has no map of features."""
        if self.net.takes == "points":
            raise DataError(
                f"{type(self.net).__name__} has no features on voxels, so none per point: leave --ply out of "
                "predict, or embed --per cloud"
            )

    @torch.no_grad()
    def point_features(self, cloud: PointFile, neighbours: int = 1) -> Float32:
        """(N, C): features of the last map for every point of the file.

        The network sees as many points as in training; each point takes the feature of the nearest voxel
        centre, or the inverse distance mean over several. Raises DataError where the image network pools
        within its own forward, so that no map is left, and for networks that take the points themselves.
        """
        self.check_point_features()
        sample, edge = self.prepare(cloud), self.net.voxel_size
        out = self.net.forward_map(self.batch([sample]))
        if not isinstance(out, SparseTensor):
            raise DataError(
                "this network pools before its last layer, so it has no features per point; "
                "use features per cloud"
            )
        low = np.floor(sample.xyz.astype(np.float64) / edge).min(0)
        centres = (out.coords[:, 1:].cpu().numpy() + low + out.stride / 2) * edge
        k = min(neighbours, len(centres))
        distance, row = (
            np.asarray(found).reshape(-1, k) for found in cKDTree(centres).query(self.every_point(cloud), k=k)
        )
        weight = 1.0 / (distance + 0.1 * edge)
        weight /= weight.sum(1, keepdims=True)
        features = out.features.float().cpu().numpy()
        return np.asarray((features[row] * weight[:, :, None]).sum(1), dtype=np.float32)


def _cloud_of(values: npt.NDArray[Any] | Tensor) -> PointFile:
    """An array as if it were a file. Raises DataError for one that is no cloud."""
    array = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
    if array.ndim != 2 or array.shape[1] < 3 or array.dtype.kind not in "fiu":
        raise DataError(
            "a cloud is an array (N, 3) of coordinates, with what else a point has behind them, "
            f"got {array.shape} {array.dtype}"
        )
    array = array.astype(np.float32)
    bad = int((~np.isfinite(array)).any(1).sum())
    if bad:
        raise DataError(
            f"an array of {len(array)} points has NaN or infinite values in {bad} of them: "
            "remove these points"
        )
    return PointFile(
        "an array", np.ascontiguousarray(array[:, :3]), features=array[:, 3:] if array.shape[1] > 3 else None
    )
