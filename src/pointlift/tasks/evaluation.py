"""`pointlift evaluate`: a checkpoint on labelled data, with the protocol beside the numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError
from pointlift.data.sample import Sample
from pointlift.data.sources.open import available_splits, open_clouds
from pointlift.evaluate import ClassificationResult, cdnv, classification_metrics, tsne
from pointlift.evaluate.voting import Voting, average_votes
from pointlift.report import console_table, write_csv
from pointlift.report.embedding import plot_tsne
from pointlift.report.plots import confusion_matrix
from pointlift.system.atomic import atomic_write
from pointlift.system.environment import environment
from pointlift.tasks.part_prediction import evaluate_parts, is_part_checkpoint
from pointlift.tasks.predictor import Output, Predictor, turned

__all__ = ["evaluate_checkpoint", "open_for"]


def evaluate_checkpoint(
    checkpoint: str, data: str, split: str, out: str | None, batch_size: int, seed: int, image_model: str | None = None, votes: int = 1
) -> int:
    """Accuracies, per-class table, confusion matrix, CDNV and t-SNE; printed, and written to `out`. For networks of parts the mIoUs.

    votes: also measure with so many votes, see `pointlift.evaluate.voting`; the numbers without votes stay what is reported first, and
    what tables, pictures and CDNV are made of. 1: no voting.
    """
    if batch_size < 1:
        raise ValueError(f"--batch_size is {batch_size}, at least 1 is expected")
    if votes < 1:
        raise ValueError(f"--votes is {votes}, at least 1 is expected (1: no voting)")
    predictor = Predictor(checkpoint, image_model, seed=seed)
    folder = Path(out) if out is not None else Path(checkpoint).resolve().parent / f"evaluation_{split}"
    if is_part_checkpoint(predictor.metadata):
        return evaluate_parts(predictor, checkpoint, data, split, folder, batch_size, seed, votes)
    drawn = seed_of_split(predictor, data, seed)
    dataset = open_for(predictor, data, split, drawn)
    samples = prepared(predictor, dataset)
    result = predictor.run(samples, batch_size)
    protocol = protocol_of(predictor, checkpoint, data, split, dataset, seed)
    if drawn != seed:
        protocol["hold-out"] = f"as in training (seed {drawn})"
    metrics, said = _metrics(predictor, result)
    voted: dict[str, Any] = {}
    if votes > 1:
        voted, line = _voted(predictor, samples, batch_size, Voting(votes, seed))
        said = [line, *said]
    print(f"{checkpoint} on {data}, split {split}\n")
    print(console_table(["class", "clouds", "accuracy %"], _per_class(metrics)))
    print("\n".join([metrics.summary(), *said]))
    print("protocol: " + ", ".join(f"{k} {v}" for k, v in protocol.items() if k != "environment"))
    _write(folder, metrics, result, protocol, seed, voted)
    print(f"wrote {folder}/metrics.json, per_class.csv, confusion.png and, where it can be drawn, tsne.png")
    return 0


def open_for(predictor: Predictor, source: str, split: str, seed: int) -> CloudDataset:
    """The clouds of a source, labelled by the checkpoint's classes.

    Raises DataError for a source whose classes the checkpoint does not know, and what `open_dataset` raises.
    """
    dataset = open_clouds(source, split, predictor.metadata["features"], predictor.n_points, seed)
    unknown = [c for c in dataset.classes if c not in predictor.classes]
    if unknown:
        raise DataError(
            f"{source} has classes that the checkpoint was not trained on ({', '.join(unknown[:3])}{', ...' if len(unknown) > 3 else ''}), "
            f"expected only {', '.join(predictor.classes[:5])}{', ...' if len(predictor.classes) > 5 else ''}"
        )
    return dataset


def seed_of_split(predictor: Predictor, source: str, seed: int) -> int:
    """What a folder without splits is divided with: the seed of the training, so that no cloud that was learned from is tested on.

    `seed` where the source has splits of its own, or the checkpoint does not say how it was trained.
    """
    recipe = predictor.metadata.get("protocol", {}).get("recipe", {})
    if available_splits(source) != ("all",) or "seed" not in recipe:
        return seed
    own = recipe.get("data", {}).get("split_seed")
    return int(recipe["seed"] if own is None else own)


def measure(predictor: Predictor, dataset: CloudDataset, batch_size: int) -> Output:
    """Probabilities and features of every cloud, labels in the checkpoint's numbering. Raises DataError for clouds without a class."""
    return predictor.run(prepared(predictor, dataset), batch_size)


def prepared(predictor: Predictor, dataset: CloudDataset) -> list[Sample]:
    """The clouds as the network sees them, labels in the checkpoint's numbering. Raises DataError for clouds without a class."""
    number = [predictor.classes.index(c) for c in dataset.classes]
    samples: list[Sample] = []
    for index in range(len(dataset)):
        sample = dataset[index]
        if sample.label < 0:
            raise DataError(f"{sample.path}: has no class, evaluation needs labelled clouds")
        xyz = turned(sample.xyz, dataset.up_axis, predictor.trained_up)
        samples.append(predictor.prepare_sample(replace(sample, xyz=xyz, label=number[sample.label])))
    return samples


def protocol_of(predictor: Predictor, checkpoint: str, data: str, split: str, dataset: CloudDataset, seed: int) -> dict[str, Any]:
    """What a reader needs to judge the numbers."""
    return {
        "checkpoint": checkpoint,
        "regime": predictor.metadata["regime"],
        "data": data,
        "dataset": dataset.name,
        "split": split,
        "clouds": len(dataset),
        "points": "all" if predictor.n_points is None else f"first {predictor.n_points}",
        "normalisation": predictor.metadata.get("normalisation", "none"),
        "voxel size": predictor.voxel_size,
        "votes": 1,
        "training seed": predictor.metadata.get("protocol", {}).get("recipe", {}).get("seed", "unknown"),
        "seed": seed,
        "environment": environment(),
    }


def _metrics(predictor: Predictor, result: Output) -> tuple[ClassificationResult, list[str]]:
    metrics = classification_metrics(result.probabilities, result.labels, predictor.classes)
    try:
        return metrics, [cdnv(result.features, result.labels).explain(predictor.classes)]
    except ValueError as error:  # too few clouds per class: the accuracy still counts
        return metrics, [f"CDNV not computed: {error}"]


def _voted(predictor: Predictor, samples: list[Sample], batch_size: int, voting: Voting) -> tuple[dict[str, Any], str]:
    """What voting gives, for metrics.json, and the line that says so."""
    told = predictor.metadata["features"] != "own"  # whether the network's features begin with the coordinates
    mean = average_votes(lambda votes: predictor.run(votes, batch_size).probabilities, samples, voting, told)
    metrics = classification_metrics(mean, np.array([s.label for s in samples]), predictor.classes)
    line = f"with {voting.votes} votes (seed {voting.seed}, every axis times {voting.low}-{voting.high}): {metrics.summary()}"
    return {**voting.describe(), "metrics": metrics.to_dict()}, line


def _per_class(metrics: ClassificationResult) -> list[list[Any]]:
    support = metrics.confusion.sum(1)
    accuracy = metrics.per_class_accuracy
    return [[c, int(n), None if np.isnan(a) else 100 * float(a)] for c, n, a in zip(metrics.classes, support, accuracy)]


def _write(folder: Path, metrics: ClassificationResult, result: Output, protocol: dict[str, Any], seed: int, voted: dict[str, Any]) -> None:
    content: dict[str, Any] = {"metrics": metrics.to_dict(), **({"voting": voted} if voted else {}), "protocol": protocol}
    collapse = None
    try:
        collapse = cdnv(result.features, result.labels)
        content["cdnv"] = collapse.to_dict()
        picture = plot_tsne(tsne(result.features, seed), result.labels, metrics.classes, collapse)
        with atomic_write(folder / "tsne.png") as temporary:
            temporary.write_bytes(picture)
    except ValueError as error:
        content["not_drawn"] = str(error)
    with atomic_write(folder / "metrics.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    with atomic_write(folder / "confusion.png") as temporary:
        temporary.write_bytes(confusion_matrix(metrics.confusion, metrics.classes))
    write_csv(folder / "per_class.csv", ["class", "clouds", "accuracy %"], _per_class(metrics))
