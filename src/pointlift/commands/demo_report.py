"""What the demo found: a table on the console, results.csv, report.html."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pointlift.data.config import DataConfig
from pointlift.data.training_clouds import load_splits
from pointlift.evaluate import Summary, cdnv, classification_metrics, epochs_to_target, summarize
from pointlift.report import Report, console_table
from pointlift.report.plots import SharePoint, result_bars, share_vs_accuracy
from pointlift.runs.result import RunResult
from pointlift.system.atomic import read_json
from pointlift.system.environment import environment
from pointlift.tasks.predictor import Output, Predictor
from pointlift.tasks.report import add_curves, add_measurements, viewer_clouds

__all__ = ["DemoResults", "RunOutcome", "print_results", "write_demo_report"]


@dataclass(frozen=True)
class RunOutcome:
    """One run: its result and the rows of its metrics.csv."""

    regime: str
    seed: int
    result: RunResult
    rows: list[dict[str, float]]

    @property
    def accuracy(self) -> float:
        """Percent of the test clouds after the last epoch."""
        return 100 * self.result.metrics["val_accuracy"]

    @property
    def share(self) -> float:
        """Trained parameters in percent of all."""
        return 100 * self.result.trainable / self.result.total

    @property
    def curve(self) -> list[float]:
        """Test accuracy in percent after every epoch."""
        return [100 * row["val_accuracy"] for row in self.rows]


@dataclass(frozen=True)
class DemoResults:
    """All runs of a demo."""

    folder: Path
    regimes: tuple[str, ...]
    outcomes: list[RunOutcome]
    shots: int
    test_per_class: int
    data: DataConfig
    image: str = "fractal_resnet"
    seen: str = "pictures of fractals"

    def of(self, regime: str) -> list[RunOutcome]:
        """The runs of a regime, one per seed."""
        return [o for o in self.outcomes if o.regime == regime]

    def accuracy(self, regime: str) -> Summary:
        """Mean and standard deviation over the seeds, in percent."""
        return summarize([o.accuracy for o in self.of(regime)])

    @cached_property
    def best(self) -> str:
        """The regime with the highest mean accuracy."""
        return max(self.regimes, key=lambda r: self.accuracy(r).mean)

    @property
    def showcase(self) -> RunOutcome:
        """The run that the report looks into and whose network is kept:
        the first seed of the best regime, not the luckiest run.
        """
        return self.of(self.best)[0]

    @cached_property
    def baseline(self) -> str:
        """What the target is taken from: scratch, or the weakest regime where scratch was left out."""
        return (
            "scratch" if "scratch" in self.regimes else min(self.regimes, key=lambda r: self.accuracy(r).mean)
        )

    @cached_property
    def target(self) -> float:
        """Accuracy to reach, in percent: what the baseline ends with on average, rounded down to a tenth."""
        return int(10 * self.accuracy(self.baseline).mean) / 10

    def epochs(self, regime: str) -> tuple[str, list[int | None]]:
        """'7.0 ± 1.0', '9.5 (2 of 3)' or 'never': epochs to the target, and the values."""
        values = [epochs_to_target(o.curve, self.target) for o in self.of(regime)]
        reached = [v for v in values if v is not None]
        if not reached:
            return "never", values
        summary = summarize(reached)
        text = f"{summary.mean:.1f}" + (f" ± {summary.std:.1f}" if summary.n > 1 else "")
        return text + ("" if len(reached) == len(values) else f" ({len(reached)} of {len(values)})"), values

    def table(self, collapse: dict[str, float] | None = None) -> tuple[list[str], list[list[Any]]]:
        """Header and one row per regime; with CDNV where it is given."""
        header = [
            "regime",
            "accuracy %",
            "class mean %",
            "trained",
            "trained %",
            f"epochs to {self.target:.1f} %",
            "s per run",
        ]
        rows: list[list[Any]] = []
        for regime in self.regimes:
            runs = self.of(regime)
            means = summarize([100 * o.result.metrics["val_class_accuracy"] for o in runs])
            seconds = sum(o.result.seconds for o in runs) / len(runs)
            share = f"{runs[0].share:.2f}"
            row = [
                regime,
                self.accuracy(regime),
                means,
                runs[0].result.trainable,
                share,
                self.epochs(regime)[0],
                seconds,
            ]
            rows.append(row + ([f"{collapse[regime]:.2f}"] if collapse else []))
        return header + (["CDNV"] if collapse else []), rows

    def rows_per_run(self) -> tuple[list[str], list[list[Any]]]:
        """results.csv: one row per run."""
        rows: list[list[Any]] = []
        for regime in self.regimes:
            for o, reached in zip(self.of(regime), self.epochs(regime)[1]):
                values = [
                    o.accuracy,
                    100 * o.result.metrics["val_class_accuracy"],
                    100 * o.result.best["val_accuracy"],
                ]
                rows.append(
                    [
                        regime,
                        o.seed,
                        *values,
                        reached,
                        self.target,
                        o.result.trainable,
                        o.result.total,
                        o.result.seconds,
                    ]
                )
        accuracies = ["accuracy %", "class mean %", "best epoch %"]
        return [
            "regime",
            "seed",
            *accuracies,
            "epochs to target",
            "target %",
            "trained",
            "parameters",
            "seconds",
        ], rows

    def target_in_words(self) -> str:
        """What the target is, for captions."""
        name = "training from scratch" if self.baseline == "scratch" else f"regime {self.baseline}"
        return f"The target, {self.target:.1f} %, is what {name} ends with on average"


def print_results(results: DemoResults) -> None:
    """The table, what its columns mean, and one sentence on what came out."""
    header, rows = results.table()
    seeds = len(results.of(results.regimes[0]))
    spread = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    title = f"accuracy on {results.test_per_class} unseen shapes per class after the last epoch, {spread}"
    print(console_table(header, rows, title=title), end="")
    print(f"{results.target_in_words()}.\n{verdict(results)}")


def verdict(results: DemoResults) -> str:
    """One honest sentence: did image weights help here?"""
    others = [r for r in results.regimes if r != "scratch"]
    if "scratch" not in results.regimes or not others:
        return f"Best here: {results.best}."
    best = max(others, key=lambda r: results.accuracy(r).mean)
    gain = results.accuracy(best).mean - results.accuracy("scratch").mean
    if gain > 0:
        return f"Starting from the image network ({best}) is {gain:.1f} points better than from scratch here."
    return f"Starting from the image network does not help here: {best} is {-gain:.1f} points below scratch."


def write_demo_report(results: DemoResults) -> Path:
    """report.html of the whole demo."""
    folder = results.folder
    splits = load_splits(results.data, results.showcase.seed)
    measured = {regime: _measure(results.of(regime)[0], splits.val) for regime in results.regimes}
    collapse = {regime: cdnv(o.features, o.labels).mean for regime, (_, _, o) in measured.items()}
    predictor, samples, output = measured[results.best]
    report = Report("pointlift demo", "An image network becomes a point-cloud classifier")
    report.section("What was done").text(_story(results))
    header, rows = results.table(collapse)
    note = f"{results.target_in_words()}. CDNV is of the first seed; lower is tighter."
    best = [(results.regimes.index(results.best), 1)]
    report.section("Result").table(header, rows, note, best=best)
    report.text(verdict(results))
    seeds = {regime: {regime: [o.accuracy for o in results.of(regime)]} for regime in results.regimes}
    report.figure(
        result_bars(seeds, "accuracy (%)", ("chance", 100 / len(predictor.classes))), "Every dot is one seed."
    )
    report.figure(_share_picture(results), "How much of the network learns, against how well it then does.")
    report.section("Curves")
    add_curves(
        report, {regime: [o.rows for o in results.of(regime)] for regime in results.regimes}, results.target
    )
    metrics = classification_metrics(output.probabilities, output.labels, predictor.classes)
    report.section(f"A closer look: {results.best}, seed {results.showcase.seed}")
    report.text("This is the network in model.safetensors: the first seed of the best regime.")
    add_measurements(report, metrics, output, results.showcase.seed)
    report.section("Clouds and predictions")
    report.cloud_viewer(
        viewer_clouds(predictor, samples, output), "Test clouds; wrong ones first.", predictor.trained_up
    )
    report.section("What became of the image network").code(
        predictor.net.report.render()  # type: ignore[union-attr,operator]
    )
    report.section("Protocol").text(_protocol(results))
    protocol = read_json(results.showcase.result.checkpoint.parent / "protocol.json")
    report.code(
        json.dumps(protocol["recipe"], indent=2),
        "The recipe of the network above; the other runs differ in regime and seed.",
    )
    report.section("Environment").definitions(environment())
    return report.write(folder / "report.html")


def _measure(outcome: RunOutcome, clouds: Any) -> tuple[Predictor, list[Any], Output]:
    predictor = Predictor(str(outcome.result.checkpoint))
    samples = [predictor.prepare_sample(clouds[i]) for i in range(len(clouds))]
    return predictor, samples, predictor.run(samples)


def _share_picture(results: DemoResults) -> bytes:
    points = []
    for regime in results.regimes:
        accuracy = results.accuracy(regime)
        series = "from scratch" if regime == "scratch" else "from the image network"
        std = accuracy.std if accuracy.n > 1 else None
        points.append(SharePoint(regime, results.of(regime)[0].share / 100, accuracy.mean, std, series))
    return share_vs_accuracy(points)


def _story(results: DemoResults) -> str:
    return f"""
The image network `{results.image}` was trained on {results.seen} and never saw a point cloud. Its 2D
filters were repeated along a third axis (Image2Point), its input and output layers were replaced, and the
result was fine-tuned on **{results.shots} examples per class** of procedural 3D shapes.

- **io**: only the new input and output layers learn.
- **io+bn**: also the weights and biases of the batch normalisations.
- **all**: everything learns, starting from the image weights.
- **scratch**: everything learns, starting from random weights.
"""


def _protocol(results: DemoResults) -> str:
    seeds = len(results.of(results.regimes[0]))
    return f"""
Accuracy is that of the last epoch on {results.test_per_class} test shapes per class, which no run trained on.
Each of the {seeds} seeds draws its own {results.shots} training shapes per class, its own new layers and its
own order. One vote, no augmentation in testing, nothing tuned per regime.
"""
