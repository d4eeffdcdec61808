"""A checkpoint at work: clouds in, answers out, preprocessed as in its training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pointlift.core.sparse_tensor import PointBatch
from pointlift.data.dataset import CloudDataset, collate
from pointlift.data.errors import DataError
from pointlift.data.files.points import PointFile, read_content, read_points
from pointlift.data.files.reader import stream_of
from pointlift.data.sample import Sample
from pointlift.data.transforms import PickFeatures, Thin, turned, unit_sphere
from pointlift.models import image_network
from pointlift.system.own_code import load_own, named, names_own_code
from pointlift.tasks import TASKS
from pointlift.tasks.point_features import PointFeatures, point_map
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
        seed: of the points drawn from clouds that have more than the training had, and on meshes; None: those
            that the evaluation in training drew.
        draws: answers of classifiers are the mean over so many draws of points; of clouds with fewer points
            than the training had, and of meshes, all draws are the same.
        nonfinite: of files: "error", or "drop" to leave out points with NaN or infinite values.

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
        seed: int | None = None,
        draws: int = 1,
        nonfinite: str = "error",
    ) -> None:
        if draws < 1:
            raise ValueError(f"draws is {draws}, at least 1 is expected (1: a single draw of points)")
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
        self.seed, self.draws, self.nonfinite = seed or 0, draws, nonfinite
        self.mesh_seed: int = self.metadata.get("points_seed", 0) if seed is None else seed
        self._pick = PickFeatures(self.metadata["features"], int(self.metadata["in_channels"]))

    @cached_property
    def task(self) -> Task:
        """What its answers mean. Raises ValueError for a task that is not in TASKS."""
        name = task_of(self.metadata)
        if name == "pretrained":
            raise ValueError(
                f"{self.checkpoint} is a network that was pre-trained without classes: start from it with "
                "pointlift fit RECIPE --model.cloud_weights, then use what comes out of that"
            )
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

        `task.embed_points` gives the second in blocks, for clouds whose (N, C) is too large.
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
        points = "all" if self.n_points is None else f"at most {self._thin(0).describe()}"
        if self.draws > 1 and self.n_points is not None:
            points += f", mean over {self.draws} draws"
        return {"points": points, "normalisation": self.metadata.get("normalisation", "none")}

    def read(self, cloud: Cloud) -> PointFile:
        """A cloud of at least 2 points.

        Raises DataError in one sentence for everything that is wrong with a file or an array.
        """
        if isinstance(cloud, PointFile):
            found = cloud
        elif isinstance(cloud, (str, Path)):
            found = self.task.read_file(cloud)
        else:
            found = _cloud_of(cloud)
        if len(found) < 2:
            raise DataError(f"{found.path}: has {len(found)} point, a shape needs at least 2")
        return found

    def read_object(self, path: str | Path) -> PointFile:
        """A file as the networks of objects see it: a mesh sampled, the columns that the checkpoint names."""
        mesh = read_content(path).faces is not None
        rng = stream_of(str(path), self.mesh_seed)
        use = () if self.metadata["features"] == "xyz" else self.metadata.get("columns") or None
        drawn = self.metadata.get("mesh_points", self.n_points) if mesh else None
        return read_points(path, drawn, rng, self.nonfinite, use)

    def prepare(self, cloud: PointFile, draw: int = 0) -> Sample:
        """The cloud as the network sees it: turned, normalised, thinned out, with features.

        draw: which of the possible draws of points is taken; the evaluation in training has number 0.
        """
        return self.prepare_sample(self._sample(cloud), draw)

    def prepare_sample(self, sample: Sample, draw: int = 0) -> Sample:
        """`prepare` for a cloud of a dataset, turned already."""
        rng = np.random.default_rng(self.seed)
        sample = self._normalised(sample)
        if self.n_points is not None:
            sample = self._thin(draw)(sample, rng)
        return self._pick(sample, rng)

    def _thin(self, draw: int) -> Thin:
        assert self.n_points is not None
        return Thin(self.n_points, self.metadata.get("thinning", "random"), self.seed + draw)

    def prepare_dataset(
        self,
        dataset: CloudDataset,
        number: Mapping[int, int],
        draw: int = 0,
    ) -> list[Sample]:
        """All clouds of a dataset, turned as in training. number: the checkpoint's label for each of the
        dataset's. draw: see `prepare`.

        Raises DataError for a cloud without a class.
        """
        samples: list[Sample] = []
        for index in range(len(dataset)):
            sample = dataset[index]
            if sample.label < 0:
                raise DataError(f"{sample.path}: has no class, evaluation needs labelled clouds")
            xyz = turned(sample.xyz, dataset.up_axis, self.trained_up)
            samples.append(self.prepare_sample(replace(sample, xyz=xyz, label=number[sample.label]), draw))
        return samples

    def every_point(self, cloud: PointFile) -> Float32:
        """(N, 3): all points of a cloud where `prepare` puts those that it keeps."""
        return self._normalised(self._sample(cloud)).xyz

    def _sample(self, cloud: PointFile) -> Sample:
        sample = cloud.sample(use=self._columns(cloud))
        return replace(sample, xyz=turned(sample.xyz, self.up_axis, self.trained_up))

    def _columns(self, cloud: PointFile) -> tuple[str, ...]:
        """Which columns of a cloud the network sees: those that its checkpoint names. Of an array they stand
        behind the coordinates, and checkpoints from before they were recorded take all that there are.
        """
        if self.metadata["features"] == "xyz":
            return ()
        there = tuple(n for n in ("features", "colors", "normals") if getattr(cloud, n) is not None)
        named = tuple(self.metadata.get("columns") or ())
        return there if there == ("features",) or not named else named

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

    def run_draws(self, prepared: Callable[[int], Sequence[Sample]], batch_size: int = 32) -> Output:
        """`run` of every draw of points of the same clouds: the means of probabilities and features.

        prepared: the clouds by the number of the draw.
        """
        found = [self.run(prepared(draw), batch_size) for draw in range(self.draws)]
        if len(found) == 1:
            return found[0]
        means = [np.mean([getattr(o, name) for o in found], axis=0) for name in ("probabilities", "features")]
        return Output(means[0], means[1], found[0].labels)

    @cached_property
    def has_point_features(self) -> bool:
        """Whether the last map of the network has centres: tried on a small cloud where it takes points."""
        if self.net.takes == "voxels":
            return True
        tried = np.random.default_rng(0).uniform(-0.5, 0.5, (64, max(3, self.net.in_channels)))
        rows = torch.from_numpy(tried.astype(np.float32))
        cloud = PointBatch.from_list([rows[:, :3]], [rows]).to(self.device)
        xyz = tried[:, :3].astype(np.float32)
        return point_map(self.net, cloud, xyz, xyz) is not None

    def check_point_features(self) -> None:
        """Raises DataError for a network that takes the points themselves and has no features of them."""
        if not self.has_point_features:
            raise DataError(
                f"{type(self.net).__name__} has no features on voxels, so none per point: leave --ply out of "
                "predict, or embed --per cloud"
            )

    def features_of_points(self, cloud: PointFile, neighbours: int = 1) -> PointFeatures:
        """Features of the last map for every point of the file, to be had in blocks
        (`pointlift.tasks.point_features`).

        The network sees as many points as in training. Of a network on voxels each point takes the feature of
        the nearest voxel centre, or the inverse distance mean over `neighbours`; of one on points the mean
        over the three nearest centres of its last level. Raises DataError where the image network pools
        within its own forward, so that no map is left, and for networks without features of points.
        """
        self.check_point_features()
        sample = self.prepare(cloud)
        seen = np.asarray(sample.xyz, dtype=np.float32)
        found = point_map(self.net, self.batch([sample]), seen, self.every_point(cloud), neighbours)
        if found is None:
            raise DataError(
                "this network pools before its last layer, so it has no features per point; "
                "use features per cloud"
            )
        return found

    def point_features(self, cloud: PointFile, neighbours: int = 1) -> Float32:
        """(N, C): `features_of_points` in one array."""
        return self.features_of_points(cloud, neighbours).array()

    def use_device(self, device: str) -> None:
        """Move the network to a device: "cpu", "cuda" or "cuda:1", say.

        Raises ValueError for one that torch does not know, or that is not there.
        """
        try:
            self.net.to(torch.zeros(0, device=device).device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            count = torch.cuda.device_count()
            there = "cpu" if not count else f"cpu, cuda or one of cuda:0 to cuda:{count - 1}"
            raise ValueError(
                f"--device {device} cannot be used ({reason[:120]}), expected {there}: name another one, or "
                "leave it out"
            ) from None
        self.device = torch.device(device)


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
