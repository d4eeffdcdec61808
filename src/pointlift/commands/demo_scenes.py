"""`pointlift demo scenes`: a U-Net around the embedded image network learns to name every point of rooms."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

from pointlift.commands.demo_report import RunOutcome
from pointlift.commands.demo_runs import check_demo, demo_workers, train_jobs
from pointlift.data.scene_clouds import load_scenes
from pointlift.data.scene_config import SceneDataConfig
from pointlift.evaluate import Summary, summarize
from pointlift.methods.optim import OptimConfig
from pointlift.methods.segmentation.scene_recipe import SceneSegmentation
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.config import ModelConfig, Regime
from pointlift.report import Report, console_table, write_csv
from pointlift.report.plots import training_curves
from pointlift.runs.result import RunResult
from pointlift.runs.run import run
from pointlift.system.atomic import copy_whole
from pointlift.system.environment import environment
from pointlift.tasks import open_task
from pointlift.tasks.scene_report import add_measurements, scene_views
from pointlift.tasks.segment import Segment

__all__ = ["SCENE_REGIMES", "run_scene_demo"]

SCENE_REGIMES = ("io+bn", "all", "scratch")
DATA = SceneDataConfig(
    source="procedural:rooms?train=8&val=4&points=20000",
    features=["height", "colors"],
    voxel_size=0.1,
    crop="none",
    batch_size=2,
)
HEADER = ["regime", "mIoU %", "points %", "trained %"]


@dataclass(frozen=True)
class SceneJob:
    """One run of the demo of scenes."""

    measured: ClassVar[tuple[str, str]] = ("mIoU", "val_miou")

    regime: str
    seed: int
    folder: Path
    epochs: int
    threads: int | None

    def run(self) -> RunResult:
        """Train, go on with an interrupted run, or return the result of a finished one."""
        experiment = SceneSegmentation(
            model=ModelConfig(network="unet", in_channels=0, regime=cast(Regime, self.regime)),
            data=DATA,
            optim=OptimConfig(lr=0.1, epochs=self.epochs, schedule="poly"),
            trainer=TrainerConfig(accelerator="cpu", enable_progress_bar=False, evaluate_every=2),
            seed=self.seed,
        )
        return run(experiment, self.folder, (self.folder / "last.ckpt").is_file())


def run_scene_demo(
    out: str, seeds: int, epochs: int, regimes: list[str] | None, workers: int | None = None
) -> int:
    """Train, compare, report. workers: processes; 1 trains in this one. Raises ValueError for settings out of
    range.
    """
    chosen = tuple(dict.fromkeys(regimes or SCENE_REGIMES))
    check_demo(chosen, seeds=seeds, epochs=epochs)
    started, folder = time.perf_counter(), Path(out)
    runs = [(regime, seed) for seed in range(seeds) for regime in chosen]
    workers = demo_workers(len(runs)) if workers is None else workers
    jobs = [
        SceneJob(r, s, folder / "runs" / f"{r.replace('+', '-')}_seed{s}", epochs, 1 if workers > 1 else None)
        for r, s in runs
    ]
    splits = load_scenes(DATA, 0)
    print(
        f"{len(splits.train)} furnished rooms to learn from and {len(splits.val)} unseen ones, made on the "
        f"spot; every point is one of {len(splits.labels)} classes"
    )
    print("fractal_resnet, which has only ever seen pictures of fractals, becomes the encoder of a 3D U-Net")
    print(f"{len(jobs)} runs of {epochs} epochs in {workers} process{'es' if workers > 1 else ''}\n")
    outcomes = train_jobs(jobs, workers)
    rows = [_row(regime, [o for o in outcomes if o.regime == regime]) for regime in chosen]
    best = max(rows, key=lambda row: row[1].mean)[0]
    showcase = next(o for o in outcomes if o.regime == best)
    copy_whole(showcase.result.checkpoint, folder / "model.safetensors")
    table = [
        [o.regime, o.seed, o.result.metrics["val_miou"], o.result.metrics["val_accuracy"]] for o in outcomes
    ]
    write_csv(folder / "results.csv", ["regime", "seed", "miou", "accuracy"], table)
    _report(folder, rows, outcomes, showcase)
    print(f"\n{console_table(HEADER, rows)}")
    print(f"\nreport      {folder / 'report.html'}   (open it in a browser; it needs no network)")
    print(f"network     {folder / 'model.safetensors'}   (regime {best}, seed {showcase.seed})")
    print(f"numbers     {folder / 'results.csv'}\n{time.perf_counter() - started:.0f} s in all. Next:")
    print(f"  pointlift predict {folder / 'model.safetensors'} YOUR_ROOM.ply --out labelled.ply")
    print("  pointlift fit scenes/your_own_folder.yaml --data.source scenes:YOUR_FOLDER")
    return 0


def _row(regime: str, outcomes: list[RunOutcome]) -> list[Any]:
    def over_seeds(column: str) -> Summary:
        return summarize([100 * o.result.metrics[column] for o in outcomes])

    return [regime, over_seeds("val_miou"), over_seeds("val_accuracy"), outcomes[0].share]


def _report(folder: Path, rows: list[list[Any]], outcomes: list[RunOutcome], showcase: RunOutcome) -> None:
    """report.html: the table, the curves, and what the best network says of the unseen rooms."""
    seeds = len({o.seed for o in outcomes})
    subtitle = "Furnished rooms, made on the spot, a class for every point"
    report = Report("pointlift: an image network names what stands in a room", subtitle)
    report.text(
        "`fractal_resnet` was trained on pictures of fractals and has never seen a room. Its filters are "
        "inflated to 3D and become the encoder of a U-Net, which learns in several regimes. **scratch** is "
        "the same network with random filters."
    )
    note = f"Mean over {seeds} seed{'s' if seeds > 1 else ''}, on all points of the unseen rooms, last epoch."
    report.section("Result").table(HEADER, rows, note)
    curves = {row[0]: [o.rows for o in outcomes if o.regime == row[0]] for row in rows}
    panels = {
        "training loss": _series(curves, "train_loss", 1.0),
        "mIoU %": _series(curves, "val_miou", 100.0),
    }
    report.section("Curves").figure(training_curves(panels, None, "mIoU %"), "mIoU on the unseen rooms.")
    task = open_task(str(showcase.result.checkpoint))
    assert isinstance(task, Segment)
    judged = load_scenes(DATA, 0).val
    add_measurements(report, *task.measure_scenes(judged))
    views = scene_views(task, judged, list(range(len(judged)))[:3])
    report.cloud_viewers(views, "Truth, prediction and errors; drag one and all turn.", "z")
    report.section("Environment").definitions(environment())
    report.write(folder / "report.html")


def _series(
    curves: dict[str, list[list[dict[str, float]]]], column: str, scale: float
) -> dict[str, list[list[float]]]:
    """Values of a column per epoch, by regime and run."""
    return {
        regime: [[scale * row.get(column, float("nan")) for row in rows] for rows in runs]
        for regime, runs in curves.items()
    }
