"""`pointlift demo`: the whole idea on embedded data, offline, in minutes.

Few-shot classification of the procedural shapes, from the embedded image network, in several regimes and
seeds. Runs are small, so they are spread over processes of one thread each; a demo that was interrupted goes
on where it stopped.
"""

from __future__ import annotations

import contextlib
import io
import logging
import multiprocessing
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, cast

import torch

from pointlift.commands.demo_report import DemoResults, RunOutcome, print_results, write_demo_report
from pointlift.data.config import DataConfig
from pointlift.data.procedural.shapes import CLASSES
from pointlift.data.procedural.writers.objects import write_modelnet_h5
from pointlift.inflation import REGIMES
from pointlift.methods.image2point import Image2Point
from pointlift.methods.optim import OptimConfig
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.config import ModelConfig, Regime
from pointlift.models.images.efficientnet_lite0 import weights_file
from pointlift.models.images.fractal_resnet import read_weights
from pointlift.ops._numba.threading import set_threads
from pointlift.report import write_csv
from pointlift.report.tables import read_rows
from pointlift.runs.folder import RunFolder
from pointlift.runs.result import RunResult
from pointlift.runs.run import run
from pointlift.system.atomic import copy_whole
from pointlift.system.environment import available_cores
from pointlift.system.processes import end_with_parent, interrupts_held

__all__ = ["DEFAULT_REGIMES", "DemoJob", "Job", "check_demo", "demo_workers", "run_demo", "train_jobs"]

DEFAULT_REGIMES = ("io", "io+bn", "all", "scratch")
# image network, what its weights were trained on, and what raises where they are missing, by --weights
IMAGES: dict[str, tuple[str, str, Callable[[], object]]] = {
    "fractals": ("fractal_resnet", "pictures of fractals", read_weights),
    "imagenet": ("efficientnet_lite0_imagenet", "photographs (ImageNet)", weights_file),
}
POINTS = 512
VOXEL = 0.1
BATCH = 10
POOL = 3  # as many examples per class and shot are made, so that seeds draw different ones
MAX_WORKERS = 4  # each holds its own copy of torch


class DemoJob(Protocol):
    """A run of a demo; hashable, and picklable for worker processes.

    measured: what its line says, and the column of metrics.csv that it is.
    """

    measured: ClassVar[tuple[str, str]]

    @property
    def regime(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def folder(self) -> Path: ...
    @property
    def threads(self) -> int | None: ...
    def run(self) -> RunResult:
        """Train, go on with an interrupted run, or return the result of a finished one."""


@dataclass(frozen=True)
class Job:
    """One run of the demo of objects."""

    measured: ClassVar[tuple[str, str]] = ("accuracy", "val_accuracy")

    regime: str
    seed: int
    folder: Path
    data: DataConfig
    epochs: int
    threads: int | None
    image: str = "fractal_resnet"

    def run(self) -> RunResult:
        """Train, go on with an interrupted run, or return the result of a finished one."""
        model = ModelConfig(self.image, pretrained=True, regime=cast(Regime, self.regime))
        optim = OptimConfig(lr=0.1, momentum=0.9, weight_decay=1e-4, epochs=self.epochs)
        trainer = TrainerConfig(accelerator="cpu", enable_progress_bar=False)
        resume = (self.folder / "last.ckpt").is_file()
        return run(Image2Point(model, self.data, optim, trainer, self.seed), self.folder, resume)


def run_demo(
    out: str,
    seeds: int,
    shots: int,
    epochs: int,
    test_per_class: int,
    regimes: list[str] | None,
    workers: int | None = None,
    weights: str = "fractals",
) -> int:
    """Train, compare, report. workers: processes; 1 trains in this one. weights: one of IMAGES. Raises
    ValueError for settings out of range and FileNotFoundError where the weights are missing: they are never
    replaced by random ones.
    """
    chosen = tuple(dict.fromkeys(regimes or DEFAULT_REGIMES))
    check_demo(chosen, seeds=seeds, shots=shots, epochs=epochs, test_per_class=test_per_class)
    image, seen, check = IMAGES[weights]
    check()
    started = time.perf_counter()
    folder = Path(out)
    data = _data(folder, shots, test_per_class)
    runs = [(regime, seed) for seed in range(seeds) for regime in chosen]
    workers = demo_workers(len(runs)) if workers is None else workers
    threads = 1 if workers > 1 else None
    runs_in = "runs" if weights == "fractals" else f"runs_{weights}"
    jobs = [
        Job(r, s, folder / runs_in / f"{r.replace('+', '-')}_seed{s}", data, epochs, threads, image)
        for r, s in runs
    ]
    print(
        f"{len(CLASSES)} classes of 3D shapes; of each, {shots} examples to learn from and {test_per_class} "
        "unseen ones to be tested on"
    )
    print(f"{image}, which has only ever seen {seen}, becomes a 3D network and is fine-tuned in each regime")
    print(
        f"{len(jobs)} runs of {epochs} epochs in {workers} process{'es' if workers > 1 else ''}; "
        "the first waits for its kernels\n"
    )
    outcomes = train_jobs(jobs, workers)
    results = DemoResults(folder, chosen, outcomes, shots, test_per_class, data, image, seen)
    copy_whole(results.showcase.result.checkpoint, folder / "model.safetensors")
    write_csv(folder / "results.csv", *results.rows_per_run())
    write_demo_report(results)
    print()
    print_results(results)
    print(f"\nreport      {folder / 'report.html'}   (open it in a browser; it needs no network)")
    print(
        f"network     {folder / 'model.safetensors'}   (regime {results.showcase.regime}, "
        f"seed {results.showcase.seed})"
    )
    print(f"numbers     {folder / 'results.csv'}\n{time.perf_counter() - started:.0f} s in all. Next:")
    print(f"  pointlift predict {folder / 'model.safetensors'} YOUR_FILE.ply")
    print("  pointlift fit image2point/your_own_folder.yaml --data.source folder:YOUR_FOLDER")
    return 0


def demo_workers(runs: int) -> int:
    """Processes for so many runs."""
    return min(runs, available_cores(), MAX_WORKERS)


def check_demo(regimes: tuple[str, ...], **counts: int) -> None:
    """Raises ValueError for an unknown regime, or a count below 1."""
    unknown = [r for r in regimes if r not in REGIMES]
    if unknown:
        raise ValueError(f"--regimes names {unknown[0]}, expected some of {', '.join(REGIMES)}")
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"--{name} is {value}, at least 1 is expected")


def _data(folder: Path, shots: int, test_per_class: int) -> DataConfig:
    """The shapes, written once in ModelNet's layout and read by its reader."""
    pool = POOL * shots
    place = folder / "data" / f"shapes_{pool}_{test_per_class}_{POINTS}"
    if not (place / "shape_names.txt").is_file():
        write_modelnet_h5(place, pool, test_per_class, POINTS, seed=0, normals=False)
    return DataConfig(
        f"modelnet:{place.resolve()}", n_points=POINTS, voxel_size=VOXEL, shots=shots, batch_size=BATCH
    )


def train_jobs(jobs: Sequence[DemoJob], workers: int) -> list[RunOutcome]:
    """Outcomes in the order of the jobs; every finished run prints a line."""
    found: dict[DemoJob, RunOutcome] = {}
    started = time.perf_counter()

    def finished(job: DemoJob, outcome: RunOutcome) -> None:
        found[job] = outcome
        name, column = job.measured
        value = 100 * outcome.result.metrics[column]
        line = f"[{len(found):>2}/{len(jobs)}] {job.regime:<8} seed {job.seed}: {name} {value:5.1f} %"
        print(
            f"{line}, trained {outcome.share:6.2f} % of the network   ({time.perf_counter() - started:.0f} "
            "s)",
            flush=True,
        )

    if workers == 1:
        for job in jobs:
            finished(job, train_one(job))
    else:
        # fork would copy torch's threads in an unknown state
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), end_with_parent) as pool:
            try:
                with interrupts_held():
                    futures = {pool.submit(train_one, job): job for job in jobs}
                for future in as_completed(futures):
                    finished(futures[future], future.result())
            except BrokenProcessPool:
                raise OSError(
                    "a process of the demo was ended from outside, probably for lack of memory: "
                    "run the same command again, finished runs are kept"
                ) from None
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
                for worker in multiprocessing.active_children():
                    worker.kill()  # would else begin its next run; what it trained is in its last checkpoint
                    worker.join()
                for job in jobs:
                    RunFolder(job.folder).clean()
                raise KeyboardInterrupt(
                    "interrupted: run the same command again, it goes on where it stopped"
                ) from None
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return [found[job] for job in jobs]


def train_one(job: DemoJob) -> RunOutcome:
    """One run, quietly; also what a worker process executes."""
    if job.threads is not None:
        torch.set_num_threads(job.threads)
        set_threads(job.threads)
    with _quiet():
        result = job.run()
    return RunOutcome(job.regime, job.seed, result, read_rows(result.csv))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No output of the training engine: a demo of twelve runs would drown in it.
    Errors and interruptions still come through.
    """
    loggers = [
        logging.getLogger(n)
        for n in (
            "lightning.pytorch",
            "lightning.fabric",
            "lightning.pytorch.utilities.rank_zero",
            "pointlift",
        )
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
