"""Classifiers of whole clouds."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError
from pointlift.data.files.points import PointFile
from pointlift.data.likeness import unlike
from pointlift.data.sample import Sample
from pointlift.data.sources.open import available_splits, open_clouds
from pointlift.evaluate import ClassificationResult, cdnv, classification_metrics, tsne
from pointlift.evaluate.voting import Voting
from pointlift.report import Report, ViewCloud
from pointlift.report.embedding import plot_tsne
from pointlift.report.plots import confusion_matrix
from pointlift.report.tables import read_rows
from pointlift.system.environment import environment
from pointlift.tasks.comparison import add_comparison, add_pictures
from pointlift.tasks.predictor import Output
from pointlift.tasks.report import (
    RunSummary,
    add_curves,
    add_measurements,
    likeliest,
    per_class,
    viewer_clouds,
)
from pointlift.tasks.task import Evaluation, Float32, Prediction, Task

__all__ = ["Classification", "Classify"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Classification(Prediction):
    """What one cloud is. probabilities: (classes,), which sum to one; classes: their names; points: of the
    cloud; unlike: in what it differs from all clouds of the training, in words, None where it does not.
    """

    probabilities: Float32
    classes: tuple[str, ...]
    points: int
    unlike: str | None = None

    @property
    def label(self) -> str:
        """The name of the likeliest class."""
        return self.classes[int(self.probabilities.argmax())]

    def describe(self, top: int = 3) -> str:
        said = likeliest(self.classes, self.probabilities, top)
        return said if self.unlike is None else f"{said}  (unlike the training clouds: {self.unlike})"

    def to_dict(self) -> dict[str, Any]:
        shares = {name: round(float(p), 6) for name, p in zip(self.classes, self.probabilities)}
        doubt = {} if self.unlike is None else {"unlike_training": self.unlike}
        return {"class": self.label, "points": self.points, "probabilities": shares, **doubt}


class Classify(Task):
    """Which of the classes a cloud is."""

    name = "classify"

    def check_category(self, category: str | None) -> None:
        if category is not None:
            raise ValueError(
                f"--category {category} is for checkpoints of part segmentation, this one classifies "
                "whole clouds: leave it out"
            )

    def doubt(self, category: str | None) -> str | None:
        return (
            None
            if self.predictor.trained
            else "this checkpoint was lifted but never trained, so its probabilities mean nothing"
        )

    def hint(self, up_axis: str | None) -> str | None:
        if up_axis is not None:
            return None
        up = self.predictor.trained_up
        other = "y" if up == "z" else "z"
        return f"{up} was taken for up, as in training; --up_axis {other} turns files that stand on {other}"

    def predict(self, clouds: Sequence[PointFile], category: str | None = None) -> list[Prediction]:
        found, seen = self._answers(clouds), self.predictor.metadata.get("seen") or {}
        return [
            Classification(p, self.predictor.classes, len(cloud), unlike(cloud.xyz, seen))
            for p, cloud in zip(found.probabilities, clouds)
        ]

    def heading(self, category: str | None) -> dict[str, Any]:
        return {"classes": list(self.predictor.classes)}

    def arrays(self, found: Sequence[Prediction]) -> dict[str, npt.NDArray[Any]]:
        """probabilities (F, classes) with the names of the classes, class (F,) by name, points (F,)."""
        said = [one for one in found if isinstance(one, Classification)]
        return {
            "probabilities": np.stack([one.probabilities for one in said]),
            "classes": np.array(self.predictor.classes),
            "class": np.array([one.label for one in said]),
            "points": np.array([one.points for one in said], dtype=np.int64),
        }

    def check_colors(self) -> None:
        self.predictor.check_point_features()

    def colors(self, cloud: PointFile, found: Prediction) -> tuple[Float32, dict[str, npt.NDArray[np.int64]]]:
        """The principal components of the features of its points."""
        return self.predictor.features_of_points(cloud, 8).colors(), {}

    def view(self, cloud: PointFile, category: str | None = None) -> ViewCloud:
        """The cloud, coloured by the features of its points if there are any, with the likeliest classes."""
        (found,) = self.predict([cloud])
        name, said = Path(cloud.path).name, found.describe()
        if not self.predictor.has_point_features:
            return ViewCloud(name, cloud.xyz, caption=said)
        return ViewCloud(
            name,
            cloud.xyz,
            colors=self.colors(cloud, found)[0],
            caption=f"{said} · colours: features of the points",
        )

    def check_embed(self, per: Literal["cloud", "point"]) -> None:
        if per == "point":
            self.predictor.check_point_features()

    def embed(self, cloud: PointFile, per: Literal["cloud", "point"] = "cloud") -> Float32:
        if per == "point":
            return self.predictor.point_features(cloud)
        return self.embed_clouds([cloud])[0]

    def embed_clouds(self, clouds: Sequence[PointFile]) -> list[Float32]:
        return list(self._answers(clouds).features)

    def embed_points(self, cloud: PointFile, category: str | None = None) -> Iterator[Float32]:
        return self.predictor.features_of_points(cloud).blocks()

    def _answers(self, clouds: Sequence[PointFile]) -> Output:
        return self.predictor.run_draws(
            lambda draw: [self.predictor.prepare(cloud, draw) for cloud in clouds]
        )

    # ---------------------------------------------------------------------- labelled clouds

    def open(self, source: str, split: str, seed: int) -> CloudDataset:
        """The clouds of a source, labelled by the checkpoint's classes.

        Raises DataError for a source whose classes the checkpoint does not know, and what `open_clouds`
        raises.
        """
        classes = self.predictor.classes
        metadata = self.predictor.metadata
        dataset = open_clouds(
            source,
            split,
            metadata["features"],
            self.predictor.n_points,
            seed,
            columns=metadata.get("columns"),
        )
        account = f" ({dataset.account})" if dataset.account else ""
        logger.info("data: %s, %d clouds%s", dataset.name, len(dataset), account)
        unknown = [c for c in dataset.classes if c not in classes]
        if unknown:
            raise DataError(
                f"{source} has classes that the checkpoint was not trained on "
                f"({', '.join(unknown[:3])}{', ...' if len(unknown) > 3 else ''}), "
                f"expected only {', '.join(classes[:5])}{', ...' if len(classes) > 5 else ''}"
            )
        return dataset

    def split_seed(self, source: str, seed: int) -> int:
        """What a folder without splits is divided with: the seed of the training, so that no cloud that was
        learned from is tested on.

        `seed` where the source has splits of its own, or the checkpoint does not say how it was trained.
        """
        recipe = self.predictor.metadata.get("protocol", {}).get("recipe", {})
        if available_splits(source) != ("all",) or "seed" not in recipe:
            return seed
        own = recipe.get("data", {}).get("split_seed")
        return int(recipe["seed"] if own is None else own)

    def prepared(self, dataset: CloudDataset, draw: int = 0) -> list[Sample]:
        """The clouds as the network sees them, labels in the checkpoint's numbering. draw: of their points.

        Raises DataError for clouds without a class.
        """
        return self.predictor.prepare_dataset(
            dataset, {i: self.predictor.classes.index(c) for i, c in enumerate(dataset.classes)}, draw
        )

    def probabilities(self, samples: Sequence[Sample], batch_size: int = 32) -> Float32:
        return self.predictor.run(samples, batch_size).probabilities

    def measure(
        self, probabilities: npt.NDArray[np.floating[Any]], samples: Sequence[Sample]
    ) -> ClassificationResult:
        return classification_metrics(
            probabilities, np.array([s.label for s in samples]), self.predictor.classes
        )

    def evaluate(
        self, data: str, split: str, batch_size: int = 32, seed: int | None = None, votes: int = 1
    ) -> Evaluation:
        """Accuracies, per-class table, confusion matrix, CDNV and t-SNE.

        The numbers without votes stay what is reported first, and what tables, pictures and CDNV are made of.
        """
        drawn = self.split_seed(data, self.predictor.mesh_seed if seed is None else seed)
        seed = seed or 0
        dataset = self.open(data, split, drawn)
        samples = self.prepared(dataset)
        found = self.predictor.run_draws(
            lambda draw: self.prepared(dataset, draw) if draw else samples, batch_size
        )
        metrics = self.measure(found.probabilities, samples)
        protocol = self._protocol(data, split, dataset, seed)
        if drawn != seed:
            protocol["hold-out"] = f"as in training (seed {drawn})"
        content: dict[str, Any] = {"metrics": metrics.to_dict()}
        said = [metrics.summary()]
        if votes > 1:
            voting = Voting(votes, seed)
            content["voting"], summary = self.with_votes(samples, batch_size, voting)
            said.append(
                f"with {votes} votes (seed {seed}, every axis times {voting.low}-{voting.high}): {summary}"
            )
        content["protocol"] = protocol
        pictures = {"confusion.png": confusion_matrix(metrics.confusion, metrics.classes)}
        said.append(self._look_at_features(found, seed, content, pictures))
        said.append("protocol: " + ", ".join(f"{k} {v}" for k, v in protocol.items() if k != "environment"))
        return Evaluation(
            content,
            "per_class.csv",
            ["class", "clouds", "accuracy %"],
            per_class(metrics),
            said,
            "metrics.json, per_class.csv, confusion.png and, where it can be drawn, tsne.png",
            pictures,
        )

    def _protocol(self, data: str, split: str, dataset: CloudDataset, seed: int) -> dict[str, Any]:
        """What a reader needs to judge the numbers."""
        metadata = self.predictor.metadata
        weights = metadata.get("protocol", {}).get("weights")
        return {
            "checkpoint": self.predictor.checkpoint,
            "regime": metadata["regime"],
            **({"weights": weights} if weights else {}),
            "data": data,
            "dataset": dataset.name,
            "split": split,
            "clouds": len(dataset),
            **self.predictor.preprocessing,
            "voxel size": self.predictor.net.voxel_size,
            "votes": 1,
            "training seed": metadata.get("protocol", {}).get("recipe", {}).get("seed", "unknown"),
            "seed": seed,
            "environment": environment(),
        }

    def _look_at_features(
        self, found: Output, seed: int, content: dict[str, Any], pictures: dict[str, bytes]
    ) -> str:
        """CDNV in words; it and the t-SNE go into `content` and `pictures`, or why there are none."""
        try:
            collapse = cdnv(found.features, found.labels)
        except ValueError as error:  # too few clouds per class: the accuracy still counts
            content["not_drawn"] = str(error)
            return f"CDNV not computed: {error}"
        content["cdnv"] = collapse.to_dict()
        try:
            pictures["tsne.png"] = plot_tsne(
                tsne(found.features, seed), found.labels, self.predictor.classes, collapse
            )
        except ValueError as error:
            content["not_drawn"] = str(error)
        return collapse.explain(self.predictor.classes)

    # ---------------------------------------------------------------------- a run

    def report(self, report: Report, summary: RunSummary) -> bool:
        """Result, curves, confusion matrix, CDNV, t-SNE, clouds with predictions."""
        predictor, judged, metadata = self.predictor, summary.judged, self.predictor.metadata
        result = summary.result
        samples = [predictor.prepare_sample(judged[i]) for i in range(len(judged))]
        output = predictor.run(samples, summary.batch_size)
        metrics = classification_metrics(output.probabilities, output.labels, predictor.classes)
        header = [
            "regime",
            "accuracy %",
            "class mean %",
            "best epoch %",
            "trained",
            "parameters",
            "trained %",
            "seconds",
        ]
        row: list[Any] = [
            metadata["regime"],
            100 * metrics.overall_accuracy,
            100 * metrics.class_mean_accuracy,
            100 * result.best.get("test_accuracy", result.best["val_accuracy"]) if result.best else None,
            result.trainable,
            result.total,
            100 * result.trainable / result.total,
            result.seconds,
        ]
        note = (
            f"After the last epoch, on {judged.name} ({len(judged)} clouds). The best epoch was chosen on "
            + (
                "a held-out part of the training split."
                if "test_accuracy" in result.best
                else "what it was measured on."
            )
        )
        report.section("Result").table(header, [row], caption=note, digits=2)
        teacher = result.metrics.get("teacher_test_accuracy", result.metrics.get("teacher_val_accuracy"))
        if teacher is not None:
            said = f"{100 * teacher:.2f} %"
            report.text(f"It learned from another network, whose own accuracy on these objects is {said}.")
        if summary.beside:
            add_comparison(report, summary)
        add_pictures(report, summary.pictures)
        report.section("Curves")
        runs = {name: [read_rows(folder / "metrics.csv")] for name, folder in summary.beside.items()}
        add_curves(report, runs or {metadata["regime"]: [read_rows(result.csv)]}, None)
        add_measurements(report, metrics, output, summary.seed)
        report.section("Clouds and predictions")
        report.cloud_viewer(
            viewer_clouds(predictor, samples, output), "Test clouds, wrong ones first.", predictor.trained_up
        )
        return True
