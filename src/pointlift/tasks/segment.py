"""Networks of scenes: the class of every point of a room, a street or a scan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pointlift.core.sparse_tensor import SparseTensor
from pointlift.data.dataset import CloudDataset, collate
from pointlift.data.errors import DataError
from pointlift.data.files.points import PointFile
from pointlift.data.files.scans import read_scan
from pointlift.data.sample import Sample
from pointlift.data.scene_clouds import open_scenes
from pointlift.data.scene_features import COLUMNS, FrameShift, SceneFeatures, columns_of
from pointlift.data.sources.scene_columns import feature_rows
from pointlift.data.transforms import take_points, turned
from pointlift.evaluate.scenes import SceneConfusion, SceneResult, scene_metrics
from pointlift.models.points.range_network import RangeNetwork
from pointlift.ops.voxelize import voxelize
from pointlift.report import Report, ViewCloud
from pointlift.system.environment import environment
from pointlift.tasks.scene_passes import CostLines, Passes, mean_probabilities, passes_of
from pointlift.tasks.scene_report import add_scenes, class_table
from pointlift.tasks.scene_tiles import tile_count, tile_rows, tile_size
from pointlift.tasks.task import Evaluation, Float32, Prediction, Task

if TYPE_CHECKING:
    from pointlift.tasks.predictor import Predictor
    from pointlift.tasks.report import RunSummary

__all__ = ["ScenePrediction", "Segment"]

MOST = 2_000_000  # points that the network sees at a time, where no size of tiles is given
HALO = 2.0  # metres
ARRAY = "an array"  # what `Predictor` calls a cloud that is one


@dataclass(frozen=True, eq=False)
class ScenePrediction(Prediction):
    """Classes of one scene. labels: (N,) class of every point; names: of the C classes; palette: (C, 3)."""

    labels: npt.NDArray[np.int64]
    names: tuple[str, ...]
    palette: Float32

    @property
    def colors(self) -> Float32:
        """(N, 3) in 0-1, one colour per class."""
        return np.asarray(self.palette[self.labels], dtype=np.float32)

    def counts(self) -> dict[str, int]:
        """Points of every class that was found, most first."""
        counts = np.bincount(self.labels, minlength=len(self.names))
        order = np.argsort(-counts, kind="stable")
        return {self.names[i]: int(counts[i]) for i in order if counts[i]}

    def describe(self, top: int = 3) -> str:
        shares = [f"{name} {100 * n / len(self.labels):.1f} %" for name, n in self.counts().items()]
        rest = f" and {len(shares) - top} more classes" if len(shares) > top else ""
        return f"{len(self.labels):,} points: {', '.join(shares[:top])}{rest}"

    def to_dict(self) -> dict[str, Any]:
        return {"points": len(self.labels), "classes": self.counts()}

    def row(self) -> dict[str, Any]:
        """Points, and how many of them are of every class, also of those that were not found."""
        return {"points": len(self.labels), **dict.fromkeys(self.names, 0), **self.counts()}


class Segment(Task):
    """The class of every point.

    A scene of more than `MOST` points is seen in tiles with a halo, as is one where `tile` is set; every
    point is answered once. Columns that the network was trained with and a cloud lacks are filled with the
    neutral values of the checkpoint, which `filled` names.

    Attributes:
        tile: edge of the tiles in metres; None: the whole scene where it fits.
        halo: how far a tile sees beyond its edge, in metres.
        passes: how often a scene is seen; set by `see`, once by default.
        numbers: what the training's files had for each class, and what files of predictions have.

    Raises ValueError for a checkpoint that is none of scene segmentation.
    """

    name = "segment"

    def __init__(self, predictor: Predictor) -> None:
        super().__init__(predictor)
        stored = predictor.metadata
        if "point_features" not in stored:
            raise ValueError(
                "the checkpoint tells no classes of points apart, expected one that the method "
                "scene_segmentation wrote; one of pointlift lift is trained first (pointlift fit "
                "scenes/your_own_folder.yaml --model.cloud_weights FILE)"
            )
        self.names: tuple[str, ...] = tuple(stored["classes"])
        self.palette: Float32 = np.asarray(stored["colors"], dtype=np.float32)
        self.numbers: tuple[int, ...] = tuple(stored.get("numbers") or range(len(self.names)))
        self.features: tuple[str, ...] = tuple(stored["point_features"])
        self.neutral: dict[str, float] = dict(stored["neutral"])
        self.tile: float | None = None
        self.halo = HALO
        self.passes = Passes()
        self._said: set[str] = set()

    # ---------------------------------------------------------------------- a user's scenes

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of files that the network looks at."""
        return tuple(name for name in COLUMNS if name in self.features)

    def read_file(self, path: str | Path) -> PointFile:
        """Every point of a scan, in the order of the file."""
        return read_scan(path, nonfinite=self.predictor.nonfinite)

    def filled(self, cloud: PointFile) -> tuple[str, ...]:
        """Which of these columns a cloud lacks."""
        there = _columns_of(cloud, self.columns)
        return tuple(name for name in self.columns if there[name] is None)

    def prepare(self, cloud: PointFile) -> Sample:
        """A file's cloud as the network sees it: turned, in the scene's frame, with its features."""
        there = tuple(name for name in self.columns if name not in self.filled(cloud))
        xyz = turned(cloud.xyz, self.predictor.up_axis, self.predictor.trained_up)
        features = feature_rows(cloud.path, there, _columns_of(cloud, self.columns))
        return self.prepare_labelled(Sample(xyz, features=features, path=cloud.path), there)

    def prepare_labelled(self, sample: Sample, columns: tuple[str, ...]) -> Sample:
        """A sample whose features are these columns as the network sees it; its labels stay."""
        rng = np.random.default_rng(0)  # neither of these draws anything
        framed = FrameShift(self.predictor.metadata["frame"])(sample, rng)
        return SceneFeatures(self.features, columns, self.neutral)(framed, rng)

    def see(self, passes: Passes) -> None:
        """See scenes so often from now on.

        Raises ValueError for fragments of a network that has no voxels, or turns where z does not point up.
        """
        if passes.fragments and self.predictor.net.takes != "voxels":
            raise ValueError(
                f"--fragments take one point of every voxel at a time, but {self.predictor.checkpoint} is a "
                f"{type(self.predictor.net).__name__}, which sees the points themselves: leave it out"
            )
        if passes.tta > 1 and self.predictor.trained_up != "z":
            raise ValueError(
                f"--tta {passes.tta} turns scenes about z, but {self.predictor.checkpoint} was trained with "
                f"{self.predictor.trained_up} pointing up: leave it out"
            )
        self.passes = passes

    def protocol(self) -> str:
        """How scenes are seen, in words."""
        return self.passes.describe(self.predictor.net.takes)

    @property
    def _voxel_size(self) -> float:
        return float(getattr(self.predictor.net, "voxel_size", 1.0))  # networks of points have none

    def _cost(self, samples: Iterable[Sample], name: str = "") -> CostLines:
        """What prepared scenes will cost, which is said."""

        def tiles_of(xyz: Float32) -> int:
            size = self._tile(xyz)
            return 1 if size is None else tile_count(xyz, size)

        given = (self.passes, self.features, self._voxel_size, tiles_of)
        return CostLines(self.passes, [passes_of(sample, *given) for sample in samples], name)

    def _tile(self, xyz: Float32) -> float | None:
        """Edge of the tiles of a scene; None where it is seen whole."""
        return self.tile if self.tile is not None else tile_size(xyz, MOST)

    def predict(self, clouds: Sequence[PointFile], category: str | None = None) -> list[Prediction]:
        """The class of every point of each scene. Raises DataError for a scene without points."""
        return [self._predict(cloud) for cloud in clouds]

    def _predict(self, cloud: PointFile) -> ScenePrediction:
        self.say_filled(cloud.path, self.filled(cloud))
        sample = self.prepare(cloud)
        cost = None if self.passes.once or not len(sample) else self._cost([sample], cloud.path)
        return ScenePrediction(self.labels(sample, cost), self.names, self.palette)

    def say_filled(self, path: str, filled: tuple[str, ...]) -> None:
        """A warning of the columns that a cloud lacks, once for each of them."""
        from pointlift.tasks.files import warn

        new = [name for name in filled if name not in self._said]
        if new:
            self._said.update(new)
            values = ", ".join(f"{name} ({self.neutral.get(name, 0.0):g})" for name in new)
            warn(
                f"{path} has no {' and no '.join(new)}, which the network was trained with; filled "
                f"with the neutral value: {values}. Expect less of the answers."
            )

    def labels(self, sample: Sample, cost: CostLines | None = None) -> npt.NDArray[np.int64]:
        """(N,) classes of the points of a prepared scene, in tiles where it is large.

        cost: is told of every pass, where a scene takes several.
        """
        if not self.passes.once and len(sample):
            given = (self.passes, self.features, self._voxel_size, self._blocks)
            told = (lambda: None) if cost is None else cost.told
            return np.asarray(mean_probabilities(sample, *given, told).argmax(1), dtype=np.int64)
        found = np.full(len(sample), -1, dtype=np.int64)
        for rows, logits in self._blocks(sample):
            found[rows] = logits.argmax(1).cpu().numpy()
        if (lost := int((found < 0).sum())) > 0:
            raise RuntimeError(f"{sample.path}: {lost} of {len(sample)} points have no answer")
        return found

    @torch.no_grad()
    def _blocks(
        self, sample: Sample, features: bool = False
    ) -> Iterator[tuple[npt.NDArray[np.int64], Tensor]]:
        """Rows of points, each row once, with their (n, C) logits (or features)."""
        if not len(sample):
            raise DataError(f"{sample.path or 'a scene'}: has no points")
        size = self._tile(sample.xyz)
        if size is None:
            yield np.arange(len(sample)), self._run(sample, None, features)
            return
        low = np.floor(sample.xyz.min(0).astype(np.float64) / self.predictor.net.voxel_size).astype(np.int64)
        for rows, own in tile_rows(sample.xyz, size, self.halo):
            out = self._run(take_points(sample, rows), low, features)
            yield rows[own], out[torch.from_numpy(own).to(out.device)]

    @torch.no_grad()
    def run_tile(self, sample: Sample, low: npt.NDArray[np.int64]) -> Tensor:
        """(n, C) logits of a prepared piece of a scene whose lowest voxel is `low` (3,)."""
        return self._run(sample, low, False)

    def _run(self, sample: Sample, low: npt.NDArray[np.int64] | None, features: bool) -> Tensor:
        """(n, C) of the points. low: the lowest voxel (3,) of the scene that these are a tile of, so that its
        coarse voxels lie where the whole scene's do.
        """
        net = self.predictor.net
        cloud = collate([sample]).to(self.predictor.device)
        del cloud.labels["class"]
        run = net.forward_features if features else net
        if low is None or net.takes != "voxels":
            given = net.as_input(cloud) if features and net.takes != "voxels" else cloud
            return run(given).float()
        voxels = voxelize(cloud, net.voxel_size, origin="world")
        shift = torch.tensor([0, *low.tolist()], dtype=voxels.coords.dtype, device=voxels.coords.device)
        moved = SparseTensor(voxels.features, voxels.coords - shift)
        return run(moved).float()[voxels.maps.point_rows]

    def heading(self, category: str | None) -> dict[str, Any]:
        return {"classes": list(self.names)}

    def arrays(self, found: Sequence[Prediction]) -> dict[str, npt.NDArray[Any]]:
        """labels: of the points of all scenes, one after another; scene i has rows offsets[i]:offsets[i + 1];
        names: of all classes.
        """
        labels = [one.labels for one in found if isinstance(one, ScenePrediction)]
        return {
            "labels": np.concatenate(labels),
            "offsets": np.cumsum([0, *(len(one) for one in labels)]),
            "names": np.array(self.names),
        }

    def check_colors(self) -> None:
        """Every network of scenes colours points by their class."""

    def colors(self, cloud: PointFile, found: Prediction) -> tuple[Float32, dict[str, npt.NDArray[np.int64]]]:
        """A colour per class, with the number that files have for the class of every point as "label"."""
        assert isinstance(found, ScenePrediction)
        return found.colors, {"label": np.array(self.numbers, dtype=np.int64)[found.labels]}

    def view(self, cloud: PointFile, category: str | None = None) -> ViewCloud:
        """The scene for the viewer, its points labelled by class."""
        found = self._predict(cloud)
        return ViewCloud(
            Path(cloud.path).name,
            cloud.xyz,
            colors=cloud.colors,
            labels=found.labels,
            label_names=self.names,
            caption=found.describe(5),
        )

    def check_embed(self, per: Literal["cloud", "point"]) -> None:
        if per == "cloud":
            raise ValueError(
                f"{self.predictor.checkpoint} is a network of scenes, which has no features of a whole "
                "cloud: use --per point (from Python: per='point'), or a classifier's checkpoint"
            )

    def embed(self, cloud: PointFile, per: Literal["cloud", "point"] = "cloud") -> Float32:
        self.check_embed(per)
        sample = self.prepare(cloud)
        out: Float32 | None = None
        for rows, features in self._blocks(sample, features=True):
            if out is None:
                out = np.empty((len(sample), features.shape[1]), dtype=np.float32)
            out[rows] = features.cpu().numpy()
        assert out is not None
        return out

    # ---------------------------------------------------------------------- labelled scenes

    def evaluate(
        self, data: str, split: str, batch_size: int = 32, seed: int | None = None, votes: int = 1
    ) -> Evaluation:
        """mIoU over all points of the scenes of a source, scene by scene; batch_size is not looked at.

        Raises DataError for a source whose classes are not the checkpoint's, or whose points have no labels,
        ValueError for votes.
        """
        if votes > 1:
            raise ValueError(f"--votes {votes}: scenes are judged without votes, use --tta {votes} for turns")
        drawn = self.predictor.metadata["points_seed"] if seed is None else seed
        dataset = open_scenes(data, split, self.columns, drawn)
        total, rows = self.measure_scenes(dataset)
        protocol = {
            "checkpoint": self.predictor.checkpoint,
            "data": data,
            "split": split,
            "scenes": len(dataset),
            "points": total.judged,
            "points_without_class": total.ignored,
            "tile": self.tile,
            "passes": self.protocol(),
            "fragments": self.passes.fragments,
            "rotations": self.passes.tta,
            "frame": self.predictor.metadata["frame"],
            "features": list(self.features),
            "environment": environment(),
        }
        said = [total.summary(), f"protocol: {self.protocol()}"]
        if isinstance(net := self.predictor.net, RangeNetwork):
            protocol["range_image_rows"] = dict(net.seen_rows)
            said.append("rows of the range images: " + _in_words(net.seen_rows))
        content = {"metrics": total.to_dict(), "scenes": rows, "protocol": protocol}
        return Evaluation(
            content, "per_class.csv", *class_table(total), said, "metrics.json and per_class.csv"
        )

    def measure_scenes(self, dataset: CloudDataset) -> tuple[SceneResult, list[dict[str, Any]]]:
        """Of all scenes together, and a row {"scene", "points", "miou", "accuracy"} of each."""
        self._check_classes(dataset)
        absent = self.predictor.metadata["absent"]
        total, rows = SceneConfusion(self.names, absent), []
        scenes = (self.prepare_labelled(dataset[i], dataset.columns) for i in range(len(dataset)))
        cost = None if self.passes.once else self._cost(scenes)  # they are read once more for it
        for index in range(len(dataset)):
            sample = dataset[index]
            if sample.part is None or not bool((sample.part >= 0).any()):
                raise DataError(
                    f"{sample.path}: none of its points has a class, so there is nothing to judge by; "
                    "predict needs no labels"
                )
            predicted = self.labels(self.prepare_labelled(sample, dataset.columns), cost)
            found = scene_metrics([predicted], [sample.part], self.names, absent)
            total.update(torch.from_numpy(predicted), torch.from_numpy(sample.part))
            rows.append(
                {
                    "scene": Path(sample.path).name,
                    "points": len(sample),
                    "miou": found.miou,
                    "accuracy": found.overall_accuracy,
                }
            )
        return total.result(), rows

    def _check_classes(self, dataset: CloudDataset) -> None:
        if dataset.classes != self.names:
            raise DataError(
                f"{dataset.name}: has the classes {', '.join(dataset.classes[:5])}, ..., but the checkpoint "
                f"was trained with {', '.join(self.names[:5])}, ...: use data with the same classes in the "
                "same order (an option of the source may say which)"
            )

    # ---------------------------------------------------------------------- a run

    def report(self, report: Report, summary: RunSummary) -> bool:
        add_scenes(report, summary, self)
        return True


def _in_words(rules: Mapping[str, int]) -> str:
    return ", ".join(f"{rule} in {count} passes" for rule, count in sorted(rules.items()))


def _columns_of(cloud: PointFile, wanted: Sequence[str]) -> dict[str, npt.NDArray[Any] | None]:
    """What a cloud has of the columns that networks of scenes may look at. What an array has behind its
    coordinates are the `wanted` ones side by side.

    Raises DataError for an array of another width.
    """
    found: dict[str, npt.NDArray[Any] | None]
    found = {"colors": cloud.colors, "normals": cloud.normals, "intensity": cloud.columns.get("intensity")}
    if cloud.path != ARRAY or cloud.features is None:
        return found
    width = sum(COLUMNS[name] for name in wanted)
    if cloud.features.shape[1] != width:
        raise DataError(
            f"an array has {cloud.features.shape[1]} columns behind x, y and z, but the network looks at "
            f"{', '.join(wanted) or 'none'} ({width} columns): give these, or x, y and z alone"
        )
    return {name: cloud.features[:, columns_of(wanted, name)] for name in wanted} | {
        name: None for name in found if name not in wanted
    }
