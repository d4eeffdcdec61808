"""report.html of a finished run: what its task has to show, the recipe and the environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pointlift.data.dataset import CloudDataset
from pointlift.data.sample import Sample
from pointlift.evaluate import ClassificationResult, cdnv, tsne
from pointlift.report import Report, ViewCloud
from pointlift.report.embedding import plot_tsne
from pointlift.report.plots import confusion_matrix, training_curves
from pointlift.tasks import open_task
from pointlift.tasks.task import Float32

if TYPE_CHECKING:
    from pointlift.tasks.predictor import Output, Predictor

__all__ = [
    "RunSummary",
    "add_curves",
    "add_measurements",
    "likeliest",
    "per_class",
    "viewer_clouds",
    "write_report",
]

SHOWN = 12  # clouds in the report's viewer


@dataclass(frozen=True)
class RunSummary:
    """A finished run, for its report.

    Attributes:
        result: its RunResult, whose network and metrics are in the folder where report.html goes.
        recipe_text: recipe.yaml. protocol: of protocol.json.
        image_model: file.py:function of an image model of the user's own, else None.
        judged: the clouds that it is measured on. source: where all its data are.
        batch_size: clouds per step of that measurement. seed: of the t-SNE picture.
        beside, pictures: what the method has to compare and to show, see `Experiment`.
    """

    result: Any
    recipe_text: str
    image_model: str | None
    judged: CloudDataset
    source: str
    batch_size: int
    seed: int
    protocol: dict[str, Any]
    beside: Mapping[str, Path] = field(default_factory=dict)
    pictures: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)


def write_report(summary: RunSummary) -> Path | None:
    """Write report.html into the run's folder, as the task of its checkpoint has it; None where that has no
    report.
    """
    checkpoint: Path = summary.result.checkpoint
    task = open_task(str(checkpoint), summary.image_model)
    metadata, net_report = task.predictor.metadata, getattr(task.predictor.net, "report", None)
    report = Report(
        f"{checkpoint.parent.name}: {metadata['regime']}", f"{metadata['image_model']} on {summary.source}"
    )
    if not task.report(report, summary):
        return None
    if net_report is not None:
        report.section("What became of the image network").code(net_report.render())
    report.section("Protocol")
    report.code(summary.recipe_text, "The recipe; save it to repeat the run.")
    report.definitions({k: v for k, v in summary.protocol.items() if not isinstance(v, dict)})
    report.section("Environment").definitions(summary.protocol["environment"])
    return report.write(checkpoint.parent / "report.html")


def likeliest(classes: Sequence[str], probabilities: Float32, top: int = 3) -> str:
    """'chair 92.1 %, table 3.0 %': the likeliest classes of one cloud (classes,)."""
    order = np.argsort(-probabilities)[:top]
    return ", ".join(f"{classes[i]} {100 * probabilities[i]:.1f} %" for i in order)


def per_class(metrics: ClassificationResult) -> list[list[Any]]:
    """Rows of class, number of clouds, accuracy in percent."""
    support, accuracy = metrics.confusion.sum(1), metrics.per_class_accuracy
    return [
        [c, int(n), None if np.isnan(a) else 100 * float(a)]
        for c, n, a in zip(metrics.classes, support, accuracy)
    ]


def add_curves(report: Report, runs: dict[str, list[list[dict[str, float]]]], target: float | None) -> None:
    """Loss and accuracy per epoch; several runs of a name show as a band. runs: name -> runs -> rows of
    metrics.csv.
    """

    def series(key: str, scale: float) -> dict[str, list[list[float]]]:
        return {
            name: [[scale * row.get(key, float("nan")) for row in rows] for rows in group]
            for name, group in runs.items()
        }

    panels = {"training loss": series("train_loss", 1.0), "accuracy %": series("val_accuracy", 100.0)}
    note = "An epoch is one pass over the training clouds; accuracy on clouds that are not trained on."
    report.figure(training_curves(panels, target, "accuracy %"), note)


def add_measurements(report: Report, metrics: ClassificationResult, output: Output, seed: int) -> None:
    """Confusion matrix, per-class accuracies, CDNV and t-SNE of one network."""
    report.section("Where it errs").text(metrics.summary())
    report.figure(confusion_matrix(metrics.confusion, metrics.classes), "Rows are the true classes.")
    report.table(["class", "clouds", "accuracy %"], per_class(metrics))
    report.section("Features")
    try:
        collapse = cdnv(output.features, output.labels)
        report.text(
            f"{collapse.explain(metrics.classes)}. Lower means that classes are tighter and further apart."
        )
        embedded = tsne(output.features, seed)
        report.figure(
            plot_tsne(embedded, output.labels, metrics.classes, collapse),
            "t-SNE of what the output layer sees.",
        )
    except ValueError as error:
        report.text(f"Not computed: {error}")


def viewer_clouds(
    predictor: Predictor, samples: Sequence[Sample], output: Output, count: int = SHOWN
) -> list[ViewCloud]:
    """Some clouds with what the network said: half of them wrong ones, where there are, then right ones."""
    wrong = output.probabilities.argmax(1) != output.labels
    rng = np.random.default_rng(0)
    errors, hits = (rng.permutation(np.flatnonzero(part)) for part in (wrong, ~wrong))
    few = errors[: max(count // 2, count - len(hits))]
    chosen = [*few.tolist(), *hits[: count - len(few)].tolist()]
    views = []
    for i in chosen:
        truth = predictor.classes[output.labels[i]]
        verdict = "wrong" if wrong[i] else "right"
        said = likeliest(predictor.classes, output.probabilities[i])
        caption = f"{verdict}: it is a {truth}; the network says {said}"
        views.append(ViewCloud(f"{truth} ({verdict})", samples[i].xyz, caption=caption))
    return views
