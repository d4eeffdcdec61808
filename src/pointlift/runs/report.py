"""Run a recipe, and write report.html beside what it made."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from pointlift.data.training_clouds import load_splits
from pointlift.evaluate import ClassificationResult, cdnv, classification_metrics, tsne
from pointlift.methods.training import FitResult
from pointlift.report import Report, ViewCloud
from pointlift.report.embedding import plot_tsne
from pointlift.report.plots import confusion_matrix, training_curves
from pointlift.runs.recipes import Recipe
from pointlift.system.distributed import process_rank
from pointlift.tasks.predictor import Output, Predictor

__all__ = ["add_curves", "add_environment", "add_measurements", "run_recipe", "viewer_clouds", "write_report"]

SHOWN = 12  # clouds in the report's viewer


def run_recipe(recipe: Recipe, resume: bool) -> int:
    """Train as the recipe says; a classifier of clouds gets its report.html. Raises what the method raises."""
    if recipe.method == "pointcmt" and process_rank() == 0:
        print(_stages(recipe), flush=True)
    result = recipe.run(resume=resume)
    if isinstance(result, FitResult) and "model" not in recipe.arguments:  # PointCMT's image network or generator: nothing that sees clouds
        said = ", ".join(f"{name} {value:.4g}" for name, value in result.metrics.items() if name.startswith("val_"))
        print(f"\n{said} after the last epoch; {result.seconds:.0f} s\ncheckpoint  {result.checkpoint}\ncurves      {result.csv}")
    elif isinstance(result, FitResult):
        path = write_report(recipe, result)
        accuracy = result.metrics.get("test_accuracy", result.metrics["val_accuracy"])
        best = f", best {100 * result.best['val_accuracy']:.1f} % in epoch {result.best['epoch'] + 1:.0f}" if result.best else ""
        print(f"\naccuracy {100 * accuracy:.1f} % after the last epoch{best}; {result.seconds:.0f} s")
        if (teacher := _teacher_accuracy(result)) is not None:
            print(f"accuracy of its teacher {100 * teacher:.1f} %")
        print(f"{result.trainable:,} of {result.total:,} parameters were trained ({100 * result.trainable / result.total:.2f} %)")
        print(f"report      {path}\ncheckpoint  {result.checkpoint}\ncurves      {result.csv}")
        print(f"next        pointlift predict {result.checkpoint} YOUR_FILE.ply")
    return 0


def _stages(recipe: Recipe) -> str:
    """What a run of PointCMT trains and where, before the lines that every stage prints."""
    given, out, transfer = recipe.arguments, Path(recipe.arguments["out"]), recipe.arguments["transfer"]
    stages = [f"student ({transfer.method}) in {out}"]
    if transfer.generates:
        checkpoint = given["generator"].checkpoint
        stages.insert(0, f"point generator in {out / 'generator'}" if checkpoint is None else f"point generator from {checkpoint}")
    if transfer.method != "none":
        checkpoint = given["teacher"].checkpoint
        stages.insert(0, f"image network in {out / 'teacher'}" if checkpoint is None else f"image network from {checkpoint}")
    return "one after the other: " + ", ".join(stages) if len(stages) > 1 else stages[0]


def _teacher_accuracy(result: FitResult) -> float | None:
    """Of the network that taught this one, on the same split as its own; None where there was none."""
    return result.metrics.get("teacher_test_accuracy", result.metrics.get("teacher_val_accuracy"))


def write_report(recipe: Recipe, result: FitResult) -> Path:
    """report.html of a finished run: results, curves, confusion matrix, CDNV, t-SNE, clouds with predictions, protocol."""
    folder = result.checkpoint.parent
    name = recipe.arguments["model"].image_model
    predictor = Predictor(str(result.checkpoint), name if ".py:" in name else None)
    config = recipe.arguments["data"]
    splits = load_splits(config, int(recipe.arguments["seed"]))
    judged = splits.val if splits.test is None else splits.test
    samples = [predictor.prepare_sample(judged[i]) for i in range(len(judged))]
    output = predictor.run(samples, config.batch_size)
    metrics = classification_metrics(output.probabilities, output.labels, predictor.classes)
    protocol = json.loads((folder / "protocol.json").read_text(encoding="utf-8"))
    report = Report(f"{folder.name}: {predictor.metadata['regime']}", f"{predictor.metadata['image_model']} on {config.source}")
    report.section("Result")
    report.table(
        ["regime", "accuracy %", "class mean %", "best epoch %", "trained", "parameters", "trained %", "seconds"],
        [
            [
                predictor.metadata["regime"],
                100 * metrics.overall_accuracy,
                100 * metrics.class_mean_accuracy,
                100 * result.best["val_accuracy"] if result.best else None,
                result.trainable,
                result.total,
                100 * result.trainable / result.total,
                result.seconds,
            ]
        ],
        caption=f"After the last epoch, on {judged.name} ({len(judged)} clouds). The best epoch was chosen on what it was measured on.",
        digits=2,
    )
    if (teacher := _teacher_accuracy(result)) is not None:
        report.text(f"It learned from another network, whose own accuracy on these objects is {100 * teacher:.2f} %.")
    report.section("Curves")
    add_curves(report, {predictor.metadata["regime"]: [read_rows(result.csv)]}, None)
    add_measurements(report, metrics, output, int(recipe.arguments["seed"]))
    report.section("Clouds and predictions")
    report.cloud_viewer(viewer_clouds(predictor, samples, output), "Test clouds, wrong ones first.", predictor.trained_up)
    net_report = getattr(predictor.net, "report", None)
    if net_report is not None:
        report.section("What became of the image network").code(net_report.render())
    report.section("Protocol")
    report.code(recipe.to_yaml(), "The recipe; save it to repeat the run.")
    report.definitions({k: v for k, v in protocol.items() if not isinstance(v, dict)})
    add_environment(report, protocol["environment"])
    return report.write(folder / "report.html")


def read_rows(path: Path) -> list[dict[str, float]]:
    """metrics.csv: one dictionary of numbers per epoch; empty cells are left out."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{k: float(v) for k, v in row.items() if v not in ("", None)} for row in csv.DictReader(file)]


def add_curves(report: Report, runs: dict[str, list[list[dict[str, float]]]], target: float | None) -> None:
    """Loss and accuracy per epoch; several runs of a name show as a band. runs: name -> runs -> rows of metrics.csv."""

    def series(key: str, scale: float) -> dict[str, list[list[float]]]:
        return {name: [[scale * row.get(key, float("nan")) for row in rows] for rows in group] for name, group in runs.items()}

    panels = {"training loss": series("train_loss", 1.0), "accuracy %": series("val_accuracy", 100.0)}
    note = "An epoch is one pass over the training clouds; accuracy on clouds that are not trained on."
    report.figure(training_curves(panels, target, "accuracy %"), note)


def add_measurements(report: Report, metrics: ClassificationResult, output: Output, seed: int) -> None:
    """Confusion matrix, per-class accuracies, CDNV and t-SNE of one network."""
    report.section("Where it errs").text(metrics.summary())
    report.figure(confusion_matrix(metrics.confusion, metrics.classes), "Rows are the true classes.")
    accuracy = metrics.per_class_accuracy
    rows = [[c, int(n), None if np.isnan(a) else 100 * float(a)] for c, n, a in zip(metrics.classes, metrics.confusion.sum(1), accuracy)]
    report.table(["class", "clouds", "accuracy %"], rows)
    report.section("Features")
    try:
        collapse = cdnv(output.features, output.labels)
        report.text(f"{collapse.explain(metrics.classes)}. Lower means that classes are tighter and further apart.")
        embedded = tsne(output.features, seed)
        report.figure(plot_tsne(embedded, output.labels, metrics.classes, collapse), "t-SNE of what the output layer sees.")
    except ValueError as error:
        report.text(f"Not computed: {error}")


def viewer_clouds(predictor: Predictor, samples: list[Any], output: Output, count: int = SHOWN) -> list[ViewCloud]:
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
        caption = f"{verdict}: it is a {truth}; the network says {predictor.caption(output.probabilities[i])}"
        height = samples[i].xyz[:, "xyz".index(predictor.trained_up)]
        views.append(ViewCloud(f"{truth} ({verdict})", samples[i].xyz, scalar=height, scalar_name="height", caption=caption))
    return views


def add_environment(report: Report, environment: dict[str, Any]) -> None:
    """Versions, commit and machine."""
    report.section("Environment").definitions(environment)
