"""Networks of part segmentation: the part of every point of a cloud."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from pointlift.core.sparse_tensor import PointBatch
from pointlift.data.config import DataConfig
from pointlift.data.errors import DataError
from pointlift.data.files.points import PointFile
from pointlift.data.part_labels import PartLabels
from pointlift.data.sample import Sample
from pointlift.data.training_clouds import open_dataset
from pointlift.evaluate.parts import PartResult, part_metrics, predicted_parts
from pointlift.evaluate.voting import Voting
from pointlift.report import ViewCloud
from pointlift.system.environment import environment
from pointlift.tasks.point_features import PointFeatures, interpolated, nearest
from pointlift.tasks.task import Evaluation, Float32, Prediction, Task

if TYPE_CHECKING:
    from pointlift.tasks.predictor import Predictor

__all__ = ["PartPrediction", "Parts", "part_colors"]


@dataclass(frozen=True, eq=False)
class PartPrediction(Prediction):
    """Parts of one cloud. labels: (N,) part of every point; names: of all labels."""

    labels: npt.NDArray[np.int64]
    names: tuple[str, ...]

    @property
    def colors(self) -> Float32:
        """(N, 3) in 0-1, one colour per part."""
        return part_colors(self.labels)

    def counts(self) -> dict[str, int]:
        """Points of every part that was found."""
        labels, counts = np.unique(self.labels, return_counts=True)
        return {self.names[label]: int(n) for label, n in zip(labels, counts)}

    def describe(self, top: int = 3) -> str:
        return ", ".join(f"{name} {100 * n / len(self.labels):.1f} %" for name, n in self.counts().items())

    def to_dict(self) -> dict[str, Any]:
        return {"points": len(self.labels), "parts": self.counts()}

    def row(self) -> dict[str, Any]:
        """Points, and how many of them are of every part, also of those that were not found."""
        return {"points": len(self.labels), **dict.fromkeys(self.names, 0), **self.counts()}


class Parts(Task):
    """Which part of its object every point belongs to.

    Raises ValueError for a checkpoint that is none of part segmentation.
    """

    name = "parts"

    def __init__(self, predictor: Predictor) -> None:
        super().__init__(predictor)
        stored = predictor.metadata
        if "parts" not in stored or "categories" not in stored:
            raise ValueError(
                "the checkpoint tells no parts apart, expected one that method part_segmentation wrote"
            )
        self.labels = PartLabels(
            tuple(stored["categories"]), tuple(map(tuple, stored["parts"])), tuple(stored["classes"])
        )
        self.restrict: bool = stored["restrict_to_category"]
        self._allowed = torch.from_numpy(self.labels.allowed())

    @property
    def told_category(self) -> bool:
        """Whether the network is told the category, or the prediction is restricted by it."""
        return self.restrict or bool(self.predictor.metadata["inflate"].get("categories"))

    def check_category(self, category: str | None) -> None:
        self.category_number(category)

    def category_number(self, category: str | None) -> int:
        """The label of a category; -1 for None.

        Raises ValueError for one that the checkpoint does not know.
        """
        if category is None:
            return -1
        if category not in self.labels.categories:
            raise ValueError(
                f"category {category!r} is not one of the checkpoint's: {', '.join(self.labels.categories)}"
            )
        return self.labels.categories.index(category)

    def doubt(self, category: str | None) -> str | None:
        """What a user should know who gives no category to a network that was trained with it."""
        if category is not None or not self.told_category:
            return None
        return (
            "without --category the parts are chosen among those of all categories, by a network "
            "that learned with the category known: give --category, one of "
            f"{', '.join(self.labels.categories)}"
        )

    # ---------------------------------------------------------------------- a user's clouds

    def predict(self, clouds: Sequence[PointFile], category: str | None = None) -> list[Prediction]:
        """Parts of clouds; the network sees as many points as in training, and every other takes the part of
        the nearest of them.

        category: what the objects are; None where it is not known, which the network was not trained for.
            Raises ValueError for one that
        the checkpoint does not know.
        """
        number = self.category_number(category)
        samples = [replace(self.predictor.prepare(cloud), label=number) for cloud in clouds]
        found: list[Prediction] = []
        for cloud, sample, seen in zip(clouds, samples, self.choose(self.probabilities(samples), samples)):
            labels = seen[nearest(self.predictor.every_point(cloud), sample.xyz)]
            found.append(PartPrediction(labels, self.labels.names))
        return found

    def heading(self, category: str | None) -> dict[str, Any]:
        return {"parts": list(self.labels.names), "category": category}

    def arrays(self, found: Sequence[Prediction]) -> dict[str, npt.NDArray[Any]]:
        """labels: of the points of all clouds, one after another; cloud i has rows offsets[i]:offsets[i + 1];
        names: of all labels.
        """
        labels = [one.labels for one in found if isinstance(one, PartPrediction)]
        return {
            "labels": np.concatenate(labels),
            "offsets": np.cumsum([0, *(len(one) for one in labels)]),
            "names": np.array(self.labels.names),
        }

    def colors(self, cloud: PointFile, found: Prediction) -> tuple[Float32, dict[str, npt.NDArray[np.int64]]]:
        """A colour per part, with the label of every point as "part"."""
        assert isinstance(found, PartPrediction)
        return found.colors, {"part": found.labels}

    def view(self, cloud: PointFile, category: str | None = None) -> ViewCloud:
        """The cloud for the viewer, its points labelled by part."""
        (found,) = self.predict([cloud], category)
        assert isinstance(found, PartPrediction)
        caption = ", ".join(found.counts())
        return ViewCloud(
            Path(cloud.path).name, cloud.xyz, labels=found.labels, label_names=found.names, caption=caption
        )

    def check_embed(self, per: Literal["cloud", "point"]) -> None:
        if per == "cloud":
            raise ValueError(
                f"{self.predictor.checkpoint} is a network of parts, which has no features of a whole cloud: "
                "use --per point (from Python: per='point'), or a classifier's checkpoint"
            )

    def embed(self, cloud: PointFile, per: Literal["cloud", "point"] = "cloud") -> Float32:
        self.check_embed(per)
        return self._features(cloud, None).array()

    def embed_points(self, cloud: PointFile, category: str | None = None) -> Iterator[Float32]:
        return self._features(cloud, category).blocks()

    def _features(self, cloud: PointFile, category: str | None) -> PointFeatures:
        """What the classifier of points sees of those that the network saw; of the others the mean over the
        three nearest of these, weighted as in `point_map`.
        """
        number = self.category_number(category)
        sample = replace(self.predictor.prepare(cloud), label=number)
        with torch.no_grad():
            features = self.predictor.net.forward_features(self._batch([sample], [number]))
        return interpolated(
            self.predictor.every_point(cloud), np.asarray(sample.xyz), features.float().cpu().numpy()
        )

    # ---------------------------------------------------------------------- labelled clouds

    @torch.no_grad()
    def probabilities(self, samples: Sequence[Sample], batch_size: int = 32) -> Float32:
        """(N, P): of all points of prepared clouds, one after another.

        Label -1, of all of them: the category is not known.
        """
        found = []
        for start in range(0, len(samples), batch_size):
            cloud = self._batch(samples[start : start + batch_size], [s.label for s in samples])
            found.append(self.predictor.net(cloud).float().softmax(1).cpu())
        return np.asarray(torch.cat(found).numpy())

    def _batch(self, samples: Sequence[Sample], categories: Sequence[int]) -> PointBatch:
        """Prepared clouds; without categories where all that are known are -1."""
        cloud = self.predictor.batch(samples)
        if all(number < 0 for number in categories):
            del cloud.labels["class"]
        return cloud

    def choose(
        self, probabilities: npt.NDArray[Any], samples: Sequence[Sample]
    ) -> list[npt.NDArray[np.int64]]:
        """The part of every point of each cloud, among those of its category where that is the checkpoint's
        way and it is known.
        """
        offsets = torch.tensor([0, *np.cumsum([len(s) for s in samples])])
        category = torch.tensor([max(s.label, 0) for s in samples])
        restrict = self.restrict and all(s.label >= 0 for s in samples)
        parts = predicted_parts(torch.from_numpy(probabilities), category, offsets, self._allowed, restrict)
        return [p.numpy() for p in parts.split(offsets.diff().tolist())]

    def measure(self, probabilities: npt.NDArray[np.floating[Any]], samples: Sequence[Sample]) -> PartResult:
        truth = [s.part for s in samples if s.part is not None]
        return part_metrics(
            self.choose(probabilities, samples), truth, [s.label for s in samples], self.labels
        )

    def evaluate(
        self, data: str, split: str, batch_size: int = 32, seed: int | None = None, votes: int = 1
    ) -> Evaluation:
        """Instance and class mIoU.

        data: a source with parts; split "train" of ShapeNetPart is its train and val. Raises DataError for
            categories or parts that the
        checkpoint does not know.
        """
        seed = seed or 0
        samples = self._labelled(data, split, seed)
        metrics = self.measure(self.probabilities(samples, batch_size), samples)
        among = "the parts of the category, which is known" if self.restrict else "all parts"
        protocol = {
            "checkpoint": self.predictor.checkpoint,
            "data": data,
            "split": split,
            "shapes": len(samples),
            "votes": 1,
            "seed": seed,
            **self.predictor.preprocessing,
            "prediction": f"highest probability among {among}",
            "environment": environment(),
        }
        content: dict[str, Any] = {"metrics": metrics.to_dict(), "protocol": protocol}
        said = [metrics.summary()]
        if votes > 1:
            content["voting"], summary = self.with_votes(samples, batch_size, Voting(votes, seed))
            said.append(f"with {votes} votes (seed {seed}): {summary}")
        rows: list[list[Any]] = []
        for name, shapes, iou in zip(metrics.categories, metrics.shapes, metrics.category_iou):
            if shapes:
                rows.append([name, int(shapes), None if np.isnan(iou) else 100 * float(iou)])
        header = ["category", "shapes", "mIoU %"]
        return Evaluation(
            content, "per_category.csv", header, rows, said, "metrics.json and per_category.csv"
        )

    def _labelled(self, data: str, split: str, seed: int) -> list[Sample]:
        """The prepared clouds of a source, in the checkpoint's numbering of categories."""
        n_points, features = self.predictor.n_points, self.predictor.metadata["features"]
        config = DataConfig(
            source=data, n_points=n_points, features=features, in_memory=False, shapes_seed=seed
        )
        dataset = open_dataset(config, split, seed, "parts")
        table = dataset.part_labels
        assert table is not None
        ours = dict(zip(self.labels.categories, self.labels.parts))
        used = sorted(set(dataset.labels.tolist()))
        for label in used:
            name = table.categories[label]
            if name not in ours:
                known = ", ".join(self.labels.categories)
                raise DataError(
                    f"{data}: the checkpoint does not know the category {name}, it was trained with {known}; "
                    "use data of these alone (procedural:shapes?classes=...)"
                )
            if ours[name] != table.parts[label]:
                raise DataError(
                    f"{data}: category {name} has the parts {list(table.parts[label])}, but "
                    f"{list(ours[name])} in the checkpoint; use data that it was trained for"
                )
        number = {label: self.labels.categories.index(table.categories[label]) for label in used}
        samples = self.predictor.prepare_dataset(dataset, number)
        if not samples:
            raise DataError(f"{data}: the split {split} has no shapes to evaluate")
        return samples


def part_colors(labels: npt.NDArray[np.integer[Any]]) -> Float32:
    """(N, 3) in 0-1: one colour per label, far apart for labels that follow one another, always the same."""
    hues = np.arange(int(labels.max(initial=0)) + 1) * 0.618033988749895 % 1.0
    table = np.array([colorsys.hsv_to_rgb(h, 0.65, 0.95) for h in hues], dtype=np.float32)
    return np.asarray(table[labels], dtype=np.float32)
