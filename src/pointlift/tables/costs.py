"""What a finished run's network and its stages cost (PointCMT, tables 1 and 10),
measured or read from what the run left.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pointlift.data.config import DataConfig
from pointlift.data.training_clouds import load_splits
from pointlift.models.factory import is_own_code
from pointlift.report.tables import read_rows
from pointlift.system.atomic import read_json
from pointlift.tasks.predictor import Predictor

__all__ = ["stage_cost", "throughput"]

STAGES = {"teacher": "teacher", "generator": "generator", "student": "."}
WARM_UP, AT_LEAST, SECONDS = 2, 3, 1.0  # batches before the clock, batches on it, and how long it runs


def throughput(folder: Path, recipe: Mapping[str, Any]) -> dict[str, float]:
    """parameters (and parameters_millions) of the run's network, and samples_per_second of it in evaluation.

    One batch of the run's own test clouds, as large as in training, from prepared clouds in memory to logits,
    on the GPU where there is one: the median of as many repetitions as fit into a second, and of three at
    least. Raises ValueError for a run without a classifier of clouds.
    """
    if "model" not in recipe or not (folder / "model.safetensors").is_file():
        raise ValueError(f"{folder} holds no network of clouds, which the measure 'throughput' runs.")
    name = str(recipe["model"]["image_model"])
    predictor = Predictor(str(folder / "model.safetensors"), name if is_own_code(name) else None)
    data = DataConfig(**recipe["data"])
    clouds = load_splits(data, int(recipe["seed"])).val
    samples = [predictor.prepare_sample(clouds[i]) for i in range(min(data.batch_size, len(clouds)))]
    for _ in range(WARM_UP):
        predictor.run(samples, len(samples))
    times: list[float] = []
    while len(times) < AT_LEAST or sum(times) < SECONDS:
        start = time.perf_counter()
        predictor.run(samples, len(samples))  # its answers are on the CPU, so that a GPU has finished
        times.append(time.perf_counter() - start)
    parameters = sum(p.numel() for p in predictor.net.parameters())
    return {
        "parameters": float(parameters),
        "parameters_millions": parameters / 1e6,
        "samples_per_second": len(samples) / statistics.median(times),
        "clouds_per_batch": float(len(samples)),
        "on_gpu": float(torch.device(predictor.device).type == "cuda"),
    }


def stage_cost(folder: Path, recipe: Mapping[str, Any]) -> dict[str, float]:
    """teacher_ms, teacher_hours, generator_..., student_...:
    the time of every stage that ran in this folder (PointCMT, table 10).

    ms is per training object and epoch, hours are all epochs; both with the evaluation after the epochs.
    Raises ValueError for a run without stages.
    """
    found: dict[str, float] = {}
    for name, place in STAGES.items():
        stage = folder / place
        if not (stage / "metrics.csv").is_file():  # was given as a checkpoint, or is not needed
            continue
        seconds = [row["seconds"] for row in read_rows(stage / "metrics.csv")]
        protocol = read_json(stage / "protocol.json")
        objects = int(protocol["steps_per_epoch"]) * int(protocol["clouds_per_step_and_device"])
        found[f"{name}_ms"] = 1000 * sum(seconds) / (len(seconds) * objects)
        found[f"{name}_hours"] = sum(seconds) / 3600
    if recipe.get("method", "pointcmt") != "pointcmt" or "teacher_ms" not in found:
        raise ValueError(
            f"{folder} is no run of method pointcmt with all its stages, "
            "which the measure 'stage_cost' reads."
        )
    return found
