"""Segmentation of scenes from image weights and from scratch: the runs behind results/scenes/.

    python tools/scene_study.py rooms [--seeds 3] [--out results/scenes] [--work runs/scenes]
    python tools/scene_study.py s3dis --data FOLDER

`rooms` and `streets` are made on the spot and take the embedded image network; `s3dis` and `semantickitti`
are the samples below FOLDER, one scan each, cut in space into 70 % to learn from and 30 % to be judged on,
with EfficientNet-Lite0 and its ImageNet weights (the extra pointlift[imagenet]) as encoder. Every arm has the
same settings but for its regime; a seed draws new layers, crops and order. Finished runs are not repeated, a
killed study goes on where it stopped, and STUDY.csv, .json and .md are written after every run.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from pointlift.data.scene_clouds import load_scenes
from pointlift.data.scene_config import SceneDataConfig
from pointlift.evaluate.curves import paired_difference, summarize
from pointlift.evaluate.scenes import scene_metrics
from pointlift.methods.optim import OptimConfig
from pointlift.methods.segmentation.scene_recipe import SceneLossConfig, SceneSegmentation
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.config import ModelConfig, Regime
from pointlift.ops._numba.threading import set_threads
from pointlift.report import write_csv
from pointlift.report.tables import markdown_table
from pointlift.runs.run import run
from pointlift.system.atomic import atomic_write
from pointlift.system.environment import environment

REGIMES = ("io", "io+stats", "io+bn", "all", "scratch")
EMBEDDED = ModelConfig(image_model="fractal_resnet", network="unet", in_channels=0)
IMAGENET = ModelConfig(image_model="efficientnet_lite0_imagenet", network="unet", in_channels=0)
SAMPLES = {
    "s3dis": "s3dis:{data}/s3dis/Stanford3dDataset_v1.2_Aligned_Version?cut=0.7&cut_gap=0.2",
    "semantickitti": "semantickitti:{data}/semantickitti/dataset?cut=0.7&cut_gap=1.0",
}
TRAINER = TrainerConfig(accelerator="cpu", enable_progress_bar=False, evaluate_every=1000)


def experiment(study: str, data: str) -> SceneSegmentation:
    """The settings of a study, regime and seed aside."""
    if study == "rooms":
        source = "procedural:rooms?train=8&val=4&points=20000"
        clouds = SceneDataConfig(source, ["height", "colors"], "floor", 0.1, crop="none", batch_size=2)
        return SceneSegmentation(EMBEDDED, clouds, optim=_optim(25), trainer=TRAINER)
    if study == "streets":
        source = "procedural:streets?train=8&val=4&azimuths=512"
        clouds = SceneDataConfig(source, ["xyz", "intensity"], "none", 0.3, crop="none", batch_size=2)
        return SceneSegmentation(EMBEDDED, clouds, optim=_optim(25), trainer=TRAINER)
    features = ["height"] if study == "s3dis" else ["height", "intensity"]
    clouds = SceneDataConfig(
        SAMPLES[study].format(data=data),
        features,
        "floor" if study == "s3dis" else "none",
        0.05 if study == "s3dis" else 0.1,
        augmentation="image2point-semantickitti",
        evaluate_on="test",
        crop="sphere",
        max_voxels=12_000,
        repeat=4,
        batch_size=2,
    )
    return SceneSegmentation(
        IMAGENET, clouds, SceneLossConfig(class_weights="sqrt"), _optim(50), trainer=TRAINER
    )


def _optim(epochs: int) -> OptimConfig:
    return OptimConfig(lr=0.1, epochs=epochs, schedule="poly")


def run_one(study: str, regime: str, seed: int, plan: argparse.Namespace) -> dict[str, Any]:
    """Train one arm with one seed, or read what it measured before."""
    torch.set_num_threads(1)
    set_threads(1)
    settings = experiment(study, str(plan.data))
    settings = replace(settings, seed=seed, model=replace(settings.model, regime=cast(Regime, regime)))
    folder = plan.work / study / f"{regime.replace('+', '-')}_seed{seed}"
    found = run(settings, folder, (folder / "last.ckpt").is_file())
    measured = {k: round(v, 5) for k, v in found.metrics.items() if k != "lr"}
    return {
        "regime": regime, "seed": seed, **measured, "trained": found.trainable, "parameters": found.total,
        "seconds": round(found.seconds, 1),
    }  # fmt: skip


def majority(study: str, data: str) -> dict[str, float]:
    """mIoU and accuracy of always naming the commonest class of the training scenes."""
    splits = load_scenes(experiment(study, data).data, 0)
    counts = np.zeros(len(splits.labels), dtype=np.int64)
    for i in range(len(splits.train)):
        part = splits.train[i].part
        assert part is not None
        counts += np.bincount(part[part >= 0], minlength=len(counts))
    truth = [splits.val[i].part for i in range(len(splits.val))]
    known = [t for t in truth if t is not None]
    always = [np.full(len(t), int(counts.argmax())) for t in known]
    result = scene_metrics(always, known, splits.labels.names)
    return {"miou": result.miou, "accuracy": result.overall_accuracy}


def write(
    study: str, rows: Sequence[dict[str, Any]], baseline: dict[str, float], plan: argparse.Namespace
) -> None:
    """STUDY.csv, .json and .md of what has finished."""
    columns = list(dict.fromkeys(k for r in rows for k in r))
    write_csv(plan.out / f"{study}.csv", columns, [[r.get(c, "") for c in columns] for r in rows])
    scratch = {r["seed"]: 100 * r["val_miou"] for r in rows if r["regime"] == "scratch"}
    body: list[list[Any]] = []
    for regime in REGIMES:
        mine = [r for r in rows if r["regime"] == regime]
        if not mine:
            continue
        pairs = [(100 * r["val_miou"], scratch[r["seed"]]) for r in mine if r["seed"] in scratch]
        line: list[Any] = [regime, len(mine)]
        line += [summarize([100 * r[k] for r in mine]) for k in ("val_miou", "val_accuracy")]
        if regime != "scratch" and len(pairs) > 1:
            d = paired_difference([a for a, _ in pairs], [b for _, b in pairs])
            line += [f"{d.mean:+.1f}", f"{d.ci_low:+.1f} to {d.ci_high:+.1f}"]
        else:
            line += ["", ""]
        share = 100 * mine[0]["trained"] / mine[0]["parameters"]
        body.append([*line, share, summarize([r["seconds"] for r in mine])])
    body.append(
        ["the commonest class", "", 100 * baseline["miou"], 100 * baseline["accuracy"], "", "", "", ""]
    )
    header = [
        "regime",
        "runs",
        "mIoU %",
        "points %",
        "minus scratch",
        "95 % interval",
        "trained %",
        "seconds",
    ]
    with atomic_write(plan.out / f"{study}.md") as path:
        path.write_text(f"# {study}\n\n{markdown_table(header, body)}\n", encoding="utf-8")
    protocol = {
        "study": study,
        "settings": asdict(experiment(study, "FOLDER")),
        "reported": "last epoch, all points of the scenes (or of the part) that were not trained on",
        "environment": environment(),
    }
    with atomic_write(plan.out / f"{study}.json") as path:
        path.write_text(json.dumps(protocol, indent=1), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", choices=("rooms", "streets", "s3dis", "semantickitti"))
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, default=Path("results/scenes"))
    parser.add_argument("--work", type=Path, default=Path("runs/scenes"))
    parser.add_argument("--regimes", nargs="+", choices=REGIMES)
    parser.add_argument("--seeds", type=int, default=3)
    plan = parser.parse_args()
    plan.data = plan.data.resolve()
    own = REGIMES if plan.study in ("rooms", "streets") else ("io+bn", "all", "scratch")
    baseline, rows = majority(plan.study, str(plan.data)), []
    for seed in range(plan.seeds):
        for regime in plan.regimes or own:
            rows.append(run_one(plan.study, regime, seed, plan))
            write(plan.study, rows, baseline, plan)
            print(json.dumps(rows[-1]), flush=True)


if __name__ == "__main__":
    main()
