"""A checkpoint at work: clouds in, probabilities and features out, preprocessed as in its training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from pointlift.core.sparse_tensor import PointBatch, SparseTensor
from pointlift.data.dataset import collate
from pointlift.data.errors import DataError
from pointlift.data.files.points import PointFile, read_content, read_points
from pointlift.data.sample import Sample
from pointlift.data.transforms import PickFeatures, Resample, turned, unit_sphere
from pointlift.models import image_network
from pointlift.nn import takes_points
from pointlift.ops.voxelize import voxelize
from pointlift.report import ViewCloud
from pointlift.weights.checkpoints import load, read_metadata

__all__ = ["Predictor", "feature_colors", "refuse_category", "turned"]

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Output:
    """What the network says of B clouds. probabilities: (B, classes); features: (B, C), what the output layer sees; labels: (B,)."""

    probabilities: Float32
    features: Float32
    labels: npt.NDArray[np.int64]


class Predictor:
    """A trained network with the preprocessing that its checkpoint names: normalisation, number of points, features, voxel size.

    checkpoint: a file that pointlift wrote. image_model: name or file.py:function of the image model, for networks that were made
    from one of the user's own (a checkpoint never runs code by itself). up_axis: which axis of the clouds points up; default: the
    one of the training data. seed: of the points drawn from clouds that have more than the training had, and on meshes.
    Raises what `pointlift.load` raises.
    """

    def __init__(self, checkpoint: str, image_model: str | None = None, up_axis: str | None = None, seed: int = 0) -> None:
        self.net = load(checkpoint, None if image_model is None else image_network(image_model, options=_image_options(checkpoint)))
        self.metadata: dict[str, Any] = self.net.metadata  # type: ignore[assignment]  # plain data that `load` attaches
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.net.to(self.device)
        self.classes: tuple[str, ...] = tuple(self.metadata["classes"])
        self.voxel_size = float(self.metadata["voxel_size"])
        self.n_points: int | None = self.metadata.get("n_points")
        self.trained_up: str = self.metadata["up_axis"]
        self.up_axis = up_axis or self.trained_up
        self.seed = seed
        self._pick = PickFeatures(self.metadata["features"], int(self.metadata["in_channels"]))

    @property
    def trained(self) -> bool:
        """False for what `pointlift lift` wrote: its output layer is random."""
        return bool(self.metadata.get("protocol", {}).get("trained", True))

    def read(self, file: str) -> PointFile:
        """A cloud of at least 2 points. Raises DataError in one sentence for everything that is wrong with a file."""
        mesh = read_content(file).faces is not None
        cloud = read_points(file, self.n_points if mesh else None, np.random.default_rng(self.seed))
        if len(cloud) < 2:
            raise DataError(f"{file}: has {len(cloud)} point, a shape needs at least 2")
        return cloud

    def prepare(self, cloud: PointFile) -> Sample:
        """The cloud as the network sees it: turned, normalised, thinned out at random, with features."""
        return self._pick(self._thinned(self._normalised(self._sample(cloud))), np.random.default_rng(self.seed))

    def prepare_sample(self, sample: Sample) -> Sample:
        """`prepare` for a cloud of a dataset, of which the first points are taken, as the evaluation in training does."""
        sample = self._normalised(sample)
        if self.n_points is not None and len(sample) > self.n_points:
            sample = Resample(self.n_points, "first")(sample, np.random.default_rng(0))
        return self._pick(sample, np.random.default_rng(0))

    def _sample(self, cloud: PointFile) -> Sample:
        use = () if self.metadata["features"] == "xyz" else [n for n in ("features", "colors", "normals") if getattr(cloud, n) is not None]
        sample = cloud.sample(use=tuple(use))
        return replace(sample, xyz=turned(sample.xyz, self.up_axis, self.trained_up))

    def _normalised(self, sample: Sample) -> Sample:
        return sample if self.metadata.get("normalisation") == "none" else replace(sample, xyz=unit_sphere(sample.xyz))

    def _thinned(self, sample: Sample) -> Sample:
        if self.n_points is None or len(sample) <= self.n_points:
            return sample
        return Resample(self.n_points)(sample, np.random.default_rng(self.seed))

    def inputs(self, samples: Sequence[Sample]) -> PointBatch | SparseTensor:
        """Prepared clouds as the network takes them, on its device."""
        return self._batch(samples) if takes_points(self.net) else self.voxels(samples)

    def voxels(self, samples: Sequence[Sample]) -> SparseTensor:
        """Prepared clouds on the grid, on the network's device."""
        return voxelize(self._batch(samples), self.voxel_size, origin="cloud")

    def _batch(self, samples: Sequence[Sample]) -> PointBatch:
        return collate(list(samples)).to(self.device)

    @torch.no_grad()
    def run(self, samples: Sequence[Sample], batch_size: int = 32) -> Output:
        """Probabilities and features of prepared clouds."""
        logits: list[Tensor] = []
        features: list[Tensor] = []
        for start in range(0, len(samples), batch_size):
            found: Any = self.net.forward_features(self.inputs(samples[start : start + batch_size]))  # type: ignore[operator]
            head: Any = self.net.head
            features.append(found.float().cpu())
            logits.append(head(found).float().cpu())
        labels = np.array([s.label for s in samples], dtype=np.int64)
        return Output(torch.cat(logits).softmax(1).numpy(), torch.cat(features).numpy(), labels)

    def check_point_features(self) -> None:
        """Raises DataError for a network that takes the points themselves and has no map of features."""
        if takes_points(self.net):
            raise DataError(
                f"{type(self.net).__name__} has no features on voxels, so none per point: leave --ply out of predict, or embed --per cloud"
            )

    @torch.no_grad()
    def point_features(self, cloud: PointFile, neighbours: int = 1) -> Float32:
        """(N, C): features of the last map for every point of the file.

        The network sees as many points as in training; each point takes the feature of the nearest voxel centre, or the inverse
        distance mean over several. Raises DataError where the image network pools within its own forward, so that no map is left, and
        for networks that take the points themselves.
        """
        self.check_point_features()
        sample = self.prepare(cloud)
        out: Any = self.net.forward_map(self.voxels([sample]))  # type: ignore[operator]
        if not isinstance(out, SparseTensor):
            raise DataError("this network pools before its last layer, so it has no features per point; use features per cloud")
        everything = self._normalised(self._sample(cloud)).xyz
        low = np.floor(sample.xyz.astype(np.float64) / self.voxel_size).min(0)
        centres = (out.coords[:, 1:].cpu().numpy() + low + out.stride / 2) * self.voxel_size
        k = min(neighbours, len(centres))
        distance, row = (np.asarray(found).reshape(-1, k) for found in cKDTree(centres).query(everything, k=k))
        weight = 1.0 / (distance + 0.1 * self.voxel_size)
        weight /= weight.sum(1, keepdims=True)
        features = out.features.float().cpu().numpy()
        return np.asarray((features[row] * weight[:, :, None]).sum(1), dtype=np.float32)

    def caption(self, probabilities: Float32, top: int = 3) -> str:
        """'chair 92.1 %, table 3.0 %': the likeliest classes of one cloud (classes,)."""
        order = np.argsort(-probabilities)[:top]
        return ", ".join(f"{self.classes[i]} {100 * probabilities[i]:.1f} %" for i in order)

    def view(self, cloud: PointFile) -> ViewCloud:
        """The cloud coloured by the features of its points, with the likeliest classes."""
        said = self.caption(self.run([self.prepare(cloud)]).probabilities[0])
        if takes_points(self.net):
            return ViewCloud(Path(cloud.path).name, cloud.xyz, caption=said)
        colors = feature_colors(self.point_features(cloud, 8))
        return ViewCloud(Path(cloud.path).name, cloud.xyz, colors=colors, caption=f"{said} · colours: features of the points")


def _image_options(checkpoint: str) -> dict[str, Any] | None:
    """What a checkpoint says its image model was made with, for a model of the user's own."""
    options: dict[str, Any] | None = read_metadata(checkpoint).get("image_options")
    return options


def refuse_category(category: str | None) -> None:
    """Raises ValueError where a category is given with a checkpoint that classifies whole clouds."""
    if category is not None:
        raise ValueError(f"--category {category} is for checkpoints of part segmentation, this one classifies whole clouds: leave it out")


def feature_colors(features: Float32) -> Float32:
    """(N, 3) in 0-1: the three principal components of features (N, C), each stretched from its 2nd to its 98th percentile."""
    centred = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    _, _, directions = np.linalg.svd(centred.T @ centred if len(centred) > centred.shape[1] else centred, full_matrices=False)
    parts = np.zeros((len(features), 3))
    found = centred @ directions[:3].T
    parts[:, : found.shape[1]] = found
    low, high = np.percentile(parts, 2, axis=0), np.percentile(parts, 98, axis=0)
    span = np.where(high > low, high - low, 1.0)
    return np.asarray(np.clip((parts - low) / span, 0.0, 1.0), dtype=np.float32)
