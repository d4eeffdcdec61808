"""A checkpoint of part segmentation at work: parts of a user's cloud, and its metrics on labelled shapes."""

from __future__ import annotations

import colorsys
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import cKDTree

from pointlift.core.sparse_tensor import PointBatch
from pointlift.data.config import DataConfig
from pointlift.data.errors import DataError
from pointlift.data.files.points import PointFile
from pointlift.data.part_labels import PartLabels
from pointlift.data.sample import Sample
from pointlift.data.training_clouds import open_dataset
from pointlift.data.transforms import unit_sphere
from pointlift.evaluate.parts import PartResult, part_metrics, predicted_parts
from pointlift.evaluate.voting import Voting, average_votes
from pointlift.report import ViewCloud, console_table, write_csv
from pointlift.system.atomic import atomic_write
from pointlift.system.environment import environment
from pointlift.tasks.predictor import Float32, Predictor, turned

__all__ = ["PartPrediction", "PartPredictor", "evaluate_parts", "is_part_checkpoint", "part_colors"]


def is_part_checkpoint(metadata: dict[str, Any]) -> bool:
    """Whether a checkpoint's metadata are those of `fit_part_segmentation`."""
    return "parts" in metadata and "categories" in metadata


@dataclass(frozen=True, eq=False)
class PartPrediction:
    """Parts of one cloud. labels: (N,) part of every point; names: of all labels; colors: (N, 3) in 0-1, one colour per part."""

    labels: npt.NDArray[np.int64]
    names: tuple[str, ...]
    colors: Float32


class PartPredictor:
    """A trained network of parts behind a `Predictor`, which knows its preprocessing.

    Raises ValueError for a checkpoint that is none of part segmentation.
    """

    def __init__(self, predictor: Predictor) -> None:
        stored = predictor.metadata
        if not is_part_checkpoint(stored):
            raise ValueError("the checkpoint tells no parts apart, expected one that method part_segmentation wrote")
        self.predictor = predictor
        self.labels = PartLabels(tuple(stored["categories"]), tuple(map(tuple, stored["parts"])), tuple(stored["classes"]))
        self.restrict: bool = stored["restrict_to_category"]
        self._allowed = torch.from_numpy(self.labels.allowed())

    @property
    def told_category(self) -> bool:
        """Whether the network is told the category, or the prediction is restricted by it."""
        return self.restrict or bool(self.predictor.metadata["inflate"].get("categories"))

    def doubt(self, category: str | None) -> str | None:
        """What a user should know who gives no category to a network that was trained with it; None where nothing is in doubt."""
        if category is not None or not self.told_category:
            return None
        return (
            "without --category the parts are chosen among those of all categories, by a network that learned with the category known: "
            f"give --category, one of {', '.join(self.labels.categories)}"
        )

    def category_number(self, category: str | None) -> int:
        """The label of a category; -1 for None. Raises ValueError for one that the checkpoint does not know."""
        if category is None:
            return -1
        if category not in self.labels.categories:
            raise ValueError(f"category {category!r} is not one of the checkpoint's: {', '.join(self.labels.categories)}")
        return self.labels.categories.index(category)

    @torch.no_grad()
    def probabilities(self, samples: Sequence[Sample], batch_size: int = 32) -> Float32:
        """(N, P): of all points of prepared clouds, one after another. Label -1, of all of them: the category is not known."""
        found = []
        for start in range(0, len(samples), batch_size):
            cloud = self.predictor.inputs(samples[start : start + batch_size])
            assert isinstance(cloud, PointBatch)
            if all(s.label < 0 for s in samples):
                del cloud.labels["class"]
            found.append(self.predictor.net(cloud).float().softmax(1).cpu())
        return np.asarray(torch.cat(found).numpy())

    def choose(self, probabilities: npt.NDArray[Any], samples: Sequence[Sample]) -> list[npt.NDArray[np.int64]]:
        """The part of every point of each cloud, among those of its category where that is the checkpoint's way and it is known."""
        offsets = torch.tensor([0, *np.cumsum([len(s) for s in samples])])
        category = torch.tensor([max(s.label, 0) for s in samples])
        restrict = self.restrict and all(s.label >= 0 for s in samples)
        parts = predicted_parts(torch.from_numpy(probabilities), category, offsets, self._allowed, restrict)
        return [p.numpy() for p in parts.split(offsets.diff().tolist())]

    def predict(self, cloud: PointFile, category: str | None = None) -> PartPrediction:
        """Parts of a user's cloud; the network sees as many points as in training, and every other takes the part of the nearest of them.

        category: what the object is; None where it is not known, which the network was not trained for. Raises ValueError for one that
        the checkpoint does not know.
        """
        sample = replace(self.predictor.prepare(cloud), label=self.category_number(category))
        (seen,) = self.choose(self.probabilities([sample]), [sample])
        everything = turned(cloud.xyz, self.predictor.up_axis, self.predictor.trained_up)
        if self.predictor.metadata.get("normalisation") != "none":
            everything = unit_sphere(everything)
        nearest = np.asarray(cKDTree(sample.xyz).query(everything)[1])
        return PartPrediction(seen[nearest], self.labels.names, part_colors(seen[nearest]))

    def view(self, cloud: PointFile, category: str | None = None) -> ViewCloud:
        """The cloud for the viewer, its points labelled by part."""
        found = self.predict(cloud, category)
        present = [found.names[i] for i in np.unique(found.labels)]
        return ViewCloud(Path(cloud.path).name, cloud.xyz, labels=found.labels, label_names=found.names, caption=", ".join(present))


def part_colors(labels: npt.NDArray[np.integer[Any]]) -> Float32:
    """(N, 3) in 0-1: one colour per label, far apart for labels that follow one another, always the same."""
    hues = np.arange(int(labels.max(initial=0)) + 1) * 0.618033988749895 % 1.0
    table = np.array([colorsys.hsv_to_rgb(h, 0.65, 0.95) for h in hues], dtype=np.float32)
    return np.asarray(table[labels], dtype=np.float32)


def evaluate_parts(predictor: Predictor, checkpoint: str, data: str, split: str, out: Path, batch_size: int, seed: int, votes: int) -> int:
    """Instance and class mIoU of a checkpoint, and, with votes, the same with votes beside them; printed, and written to `out`.

    data: a source with parts, see `open_dataset`; split "train" of ShapeNetPart is its train and val. Raises DataError for categories or
    parts that the checkpoint does not know.
    """
    parts = PartPredictor(predictor)
    samples = _labelled(parts, data, split, seed)
    truth, category = [s.part for s in samples if s.part is not None], [s.label for s in samples]
    results: dict[str, PartResult] = {}
    plain = parts.probabilities(samples, batch_size)
    results["metrics"] = part_metrics(parts.choose(plain, samples), truth, category, parts.labels)
    protocol: dict[str, Any] = {
        "checkpoint": checkpoint, "data": data, "split": split, "shapes": len(samples), "votes": 1, "seed": seed,
        "points": "all" if predictor.n_points is None else f"first {predictor.n_points}",
        "normalisation": predictor.metadata.get("normalisation", "none"),
        "prediction": f"highest probability among {'the parts of the category, which is known' if parts.restrict else 'all parts'}",
        "environment": environment(),
    }  # fmt: skip
    content: dict[str, Any] = {"metrics": results["metrics"].to_dict(), "protocol": protocol}
    print(f"{checkpoint} on {data}, split {split}\n")
    rows = [[c, int(n), None if np.isnan(v) else 100 * float(v)] for c, n, v in _per_category(results["metrics"])]
    print(console_table(["category", "shapes", "mIoU %"], rows))
    print(results["metrics"].summary())
    if votes > 1:
        voting = Voting(votes, seed)
        told = predictor.metadata["features"] != "own"
        voted = average_votes(lambda s: parts.probabilities(s, batch_size), samples, voting, told)
        results["voted"] = part_metrics(parts.choose(voted, samples), truth, category, parts.labels)
        content["voting"] = {**voting.describe(), "metrics": results["voted"].to_dict()}
        print(f"with {votes} votes (seed {seed}): {results['voted'].summary()}")
    with atomic_write(out / "metrics.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    write_csv(out / "per_category.csv", ["category", "shapes", "mIoU %"], rows)
    print(f"wrote {out}/metrics.json and per_category.csv")
    return 0


def _per_category(result: PartResult) -> list[tuple[str, Any, Any]]:
    return [row for row in zip(result.categories, result.shapes, result.category_iou) if row[1]]


def _labelled(parts: PartPredictor, data: str, split: str, seed: int) -> list[Sample]:
    """The prepared clouds of a source, in the checkpoint's numbering of categories."""
    predictor = parts.predictor
    config = DataConfig(
        source=data, n_points=predictor.n_points, features=predictor.metadata["features"], in_memory=False, shapes_seed=seed
    )
    dataset = open_dataset(config, split, seed, "parts")
    table = dataset.part_labels
    assert table is not None
    ours = dict(zip(parts.labels.categories, parts.labels.parts))
    used = sorted(set(dataset.labels.tolist()))
    for label in used:
        name = table.categories[label]
        if ours.get(name) != table.parts[label]:
            if name not in ours:
                known = ", ".join(parts.labels.categories)
                raise DataError(
                    f"{data}: the checkpoint does not know the category {name}, it was trained with {known}; use data of these alone "
                    "(procedural:shapes?classes=...)"
                )
            raise DataError(
                f"{data}: category {name} has the parts {list(table.parts[label])}, but {list(ours[name])} in the checkpoint; use data "
                "that it was trained for"
            )
    number = {label: parts.labels.categories.index(table.categories[label]) for label in used}
    samples = []
    for index in range(len(dataset)):
        sample = dataset[index]
        xyz = turned(sample.xyz, dataset.up_axis, predictor.trained_up)
        samples.append(predictor.prepare_sample(replace(sample, xyz=xyz, label=number[sample.label])))
    if not samples:
        raise DataError(f"{data}: the split {split} has no shapes to evaluate")
    return samples
