"""What report.html shows of a run of scene segmentation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pointlift.data.dataset import CloudDataset
from pointlift.data.scene_features import columns_of
from pointlift.evaluate.scenes import SceneResult
from pointlift.report import Report, ViewCloud
from pointlift.report.plots import confusion_matrix, training_curves
from pointlift.report.tables import read_rows
from pointlift.tasks.report import RunSummary

if TYPE_CHECKING:
    from pointlift.tasks.segment import Segment

__all__ = ["add_measurements", "add_scenes", "class_table", "scene_views"]

SHOWN = 4  # scenes in the viewers
VERDICTS = ("right", "wrong")


def add_scenes(report: Report, summary: RunSummary, task: Segment) -> None:
    """Result, curves, classes, confusion, the scenes worst first, and some of them: truth, prediction and
    errors side by side.
    """
    result, judged = summary.result, summary.judged
    total, rows = task.measure_scenes(judged)
    best = result.best.get("test_miou", result.best.get("val_miou")) if result.best else None
    header = ["mIoU %", "points %", "class mean %", "best epoch mIoU %", "trained", "parameters", "seconds"]
    row: list[Any] = [100 * total.miou, 100 * total.overall_accuracy, 100 * total.mean_accuracy]
    row += [None if best is None else 100 * best, result.trainable, result.total, result.seconds]
    note = f"After the last epoch, on all points of the {len(judged)} scenes of {judged.name}; "
    note += f"{task.protocol()}."
    report.section("Result").table(header, [row], note, digits=2)
    report.section("Curves")
    epochs, name = read_rows(result.csv), str(task.predictor.metadata["regime"])
    panels = {
        "training loss": {name: [[r.get("train_loss", float("nan")) for r in epochs]]},
        "mIoU %": {name: [[100 * r.get("val_miou", float("nan")) for r in epochs]]},
    }
    report.figure(training_curves(panels, None, "mIoU %"), "mIoU on scenes that are not trained on.")
    order = add_measurements(report, total, rows)
    views = scene_views(task, judged, order[:SHOWN])
    report.cloud_viewers(views, "Truth, prediction and errors; drag one and all turn.", "z")


def add_measurements(report: Report, total: SceneResult, rows: list[dict[str, Any]]) -> list[int]:
    """IoU of every class, the confusion, and a table of the scenes; gives their numbers, worst first."""
    report.section("Classes").text(total.summary()).table(*class_table(total))
    report.figure(confusion_matrix(total.confusion, total.classes), "Rows are the true classes.")
    order = sorted(range(len(rows)), key=lambda i: rows[i]["miou"])
    report.section("Scenes").table(
        ["scene", "points", "mIoU %", "points %"],
        [[r["scene"], r["points"], 100 * r["miou"], 100 * r["accuracy"]] for r in (rows[i] for i in order)],
        "Worst first.",
    )
    return order


def scene_views(task: Segment, judged: CloudDataset, indices: list[int]) -> dict[str, list[ViewCloud]]:
    """Some scenes three times: as they are labelled, as the network labels them, and where it is wrong."""
    views: dict[str, list[ViewCloud]] = {"truth": [], "prediction": [], "errors": []}
    for index in indices:
        sample = judged[index]
        assert sample.part is not None
        predicted = task.labels(task.prepare_labelled(sample, judged.columns))
        wrong = np.where(sample.part < 0, -1, predicted != sample.part)
        name, xyz, colors = Path(sample.path).name, sample.xyz, None
        if "colors" in judged.columns and sample.features is not None:
            colors = np.clip(sample.features[:, columns_of(judged.columns, "colors")], 0, 1)
        for heading, labels in (("truth", sample.part), ("prediction", predicted)):
            views[heading].append(ViewCloud(name, xyz, colors, labels, task.names))
        share = float((wrong == 1).sum() / max((wrong >= 0).sum(), 1))
        views["errors"].append(
            ViewCloud(
                name, xyz, colors, wrong.astype(np.int64), VERDICTS, caption=f"{100 * share:.1f} % wrong"
            )
        )
    return views


def class_table(result: SceneResult) -> tuple[list[str], list[list[Any]]]:
    """Header and a row of every class: IoU and accuracy in percent, points that are of it and were said to
    be.
    """
    rows: list[list[Any]] = [
        [
            row["class"],
            None if row["iou"] is None else 100 * row["iou"],
            None if row["accuracy"] is None else 100 * row["accuracy"],
            row["true"],
            row["predicted"],
        ]
        for row in result.rows()
    ]
    return ["class", "IoU %", "found %", "points", "said to be"], rows
