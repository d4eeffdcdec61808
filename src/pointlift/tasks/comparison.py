"""What report.html shows of a run that trained two networks to compare, and of the pictures that an image
network saw.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pointlift.evaluate import classification_metrics
from pointlift.report import Report
from pointlift.report.pictures import Strip, picture_grid
from pointlift.system.atomic import read_json
from pointlift.tasks.predictor import Predictor
from pointlift.tasks.report import RunSummary

__all__ = ["add_comparison", "add_pictures", "paired"]

ROWS = 10  # strips of pictures in a figure


def add_comparison(report: Report, summary: RunSummary) -> None:
    """A table of the networks of `summary.beside`, and how their answers to the same clouds differ."""
    judged, rows, right = summary.judged, [], []
    for name, folder in summary.beside.items():
        predictor = Predictor(folder / "model.safetensors", summary.image_model)
        samples = [predictor.prepare_sample(judged[i]) for i in range(len(judged))]
        output = predictor.run(samples, summary.batch_size)
        metrics = classification_metrics(output.probabilities, output.labels, predictor.classes)
        found = read_json(folder / "result.json")
        best = found["best"].get("test_accuracy", found["best"].get("val_accuracy"))
        row: list[Any] = [
            name,
            100 * metrics.overall_accuracy,
            100 * metrics.class_mean_accuracy,
            None if best is None else 100 * best,
            found["seconds"],
        ]
        rows.append(row)
        right.append(output.probabilities.argmax(1) == output.labels)
    metrics = summary.result.metrics
    for split in ("test", "val"):
        if (accuracy := metrics.get(f"teacher_{split}_accuracy")) is not None:
            mean = metrics.get(f"teacher_{split}_class_accuracy")
            rows.append(
                ["the image network itself", 100 * accuracy, 100 * mean if mean else None, None, None]
            )
            break
    names = list(summary.beside)
    heading = f"{names[0]} against {names[1]}"
    report.section(heading[0].upper() + heading[1:])
    header = ["", "accuracy %", "class mean %", "best epoch %", "seconds"]
    report.table(header, rows, f"After the last epoch, on {judged.name} ({len(judged)} clouds).", digits=2)
    report.text(paired(names[0], names[1], right[0], right[1]))
    report.text("Their training losses are sums of different terms: compare the accuracies.")


def paired(
    first: str,
    second: str,
    right: npt.NDArray[np.bool_],  # (n,) whether the first network was right
    other: npt.NDArray[np.bool_],  # (n,) the second
) -> str:
    """In words: on how many of the same clouds only one of two networks was right, and whether that could be
    chance (McNemar's test in its exact form: of the clouds on which they differ, each is as likely to be
    right).
    """
    from scipy.stats import binomtest

    only, lost = int((right & ~other).sum()), int((other & ~right).sum())
    said = (
        f"Same network, seed, clouds and schedule. Of {len(right)} clouds only **{first}** was right on "
        f"{only}, only **{second}** on {lost}; they agree on the others."
    )
    if not only + lost:
        return said
    chance = binomtest(only, only + lost).pvalue
    if chance < 0.05:
        return f"{said} By chance alone such a difference comes up in {100 * chance:.2g} % of cases."
    return (
        f"{said} By chance alone such a difference, or a larger one, comes up in {100 * chance:.0f} % of "
        "cases: it says little; look at several seeds (`--seed 1`) or more test clouds."
    )


def add_pictures(report: Report, pictures: Mapping[str, npt.NDArray[np.float32]]) -> None:
    """An object of every class in the pictures (V, H, W, 3) that an image network saw of it."""
    if not pictures:
        return
    report.section("What the image network saw")
    strips = [Strip(name, list(views)) for name, views in pictures.items()]
    for start in range(0, len(strips), ROWS):
        shown = strips[start : start + ROWS]
        alt = f"Views of {', '.join(strip.caption for strip in shown)}"
        note = "The first training object of every class, before augmentation." if start == 0 else ""
        report.figure(picture_grid({"": shown}), note, alt)
