"""Image2Point on ModelNet10 with networks that were trained on photographs:
the runs behind results/modelnet10/.

    python tools/modelnet10_study.py FEW_SHOT --data FOLDER [--out results/modelnet10] [--workers 2]
        [--work runs/modelnet10]

FOLDER holds modelnet10_ply_hdf5_1024/ (ModelNet10 in the layout of modelnet40_ply_hdf5_2048), weights2d/ and
models2d/. A study is a list of cells; every (cell, seed) is one image2point run in one thread, finished runs
are not repeated, and a killed study goes on where it stopped. Writes STUDY.csv (a row per run), STUDY.json
(protocol) and STUDY.md (mean, spread, paired differences with 95 % intervals).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import multiprocessing
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pointlift.evaluate.curves import paired_difference, summarize
from pointlift.inflation import rule_matrix
from pointlift.report import console_table, write_csv
from pointlift.report.tables import markdown_table
from pointlift.system.atomic import atomic_write
from pointlift.system.environment import environment

RESNET20 = {
    "image_model": "models2d/resnet20_cifar.py:ResNetCifar",
    "weights": "weights2d/cifar10_resnet20.th",
}
SQUEEZENET = {"image_model": "squeezenet.py:build", "weights": "weights2d/squeezenet1_1_imagenet_fp16.pth"}
FRACTAL = {"image_model": "fractal_resnet", "weights": None}
REGIMES = ("io", "io+stats", "io+bn", "all")
RULES = ("repeat", "mean", "center", "T1", "T2", "T3", "learned", "learned-shared")


@dataclass(frozen=True)
class Cell:
    """One setting, run with several seeds; a seed draws the shots,
    the new layers and the order of the data.
    """

    name: str
    seeds: tuple[int, ...]
    model: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    optim: dict[str, Any] = field(default_factory=dict)


def _cell(name: str, seeds: int, regime: str, rule: Any = "repeat", **changes: Any) -> Cell:
    model = {
        "regime": regime,
        "rule": rule,
        **{k: v for k, v in changes.items() if k in ("axis", "head", "stem", "shortcut_kernel")},
    }
    model |= changes.get("image", {})
    data = {"shots": changes.get("shots", 10), "voxel_size": changes.get("voxel", 0.1)}
    optim = {"epochs": changes.get("epochs", 40), "lr": changes.get("lr", 0.1)}
    return Cell(name, tuple(range(seeds)), model, data, optim)


def few_shot() -> list[Cell]:
    """10 shots: from scratch, and every regime of every rule. A learned rule has no `all` of its own: its 2D
    weights stay frozen, so `io+bn` trains everything that there is."""
    cells = [_cell("scratch", 5, "scratch")]
    return cells + [
        _cell(f"{rule} / {regime}", 5, regime, rule)
        for rule in RULES
        for regime in REGIMES
        if not (rule.startswith("learned") and regime == "all")
    ]


def why() -> list[Cell]:
    """What decides between `all` and `scratch` at 10 shots:
    learning rate, length, voxel size, layers, number of shots, image network.
    """
    changes: list[tuple[str, dict[str, Any]]] = [
        ("lr 1.0", {"lr": 1.0}),
        ("10 epochs", {"epochs": 10}),
        ("voxel 0.05", {"voxel": 0.05}),
    ]
    changes += [("1 shot, 120 epochs", {"shots": 1, "epochs": 120}), ("fractal_resnet", {"image": FRACTAL})]
    changes.append(("image stem", {"stem": "inflate"}))
    cells = []
    for title, change in changes:
        cells.append(_cell(f"{title} / scratch", 3, "scratch", **change))
        cells += [_cell(f"{title} / {rule} / all", 3, "all", rule, **change) for rule in ("repeat", "center")]
    cells += [
        _cell(f"shortcut 2 / {rule} / all", 3, "all", rule, shortcut_kernel=2)
        for rule in ("repeat", "center")
    ]
    return cells


def norms() -> list[Cell]:
    """The same inflated kernels, scaled down to about the length of fresh ones. Batch normalisation undoes
    the scale in the forward pass, so only the step that a learning rate makes relative to the weight changes;
    `repeat` scaled by 1/3 is the rule `mean`."""
    cells = [_cell("scratch", 5, "scratch")]
    for rule, factors in (("repeat", (5, 10)), ("center", (3,))):
        for factor in factors:
            matrix = (rule_matrix(rule, "z", 3) / factor).tolist()
            cells += [
                _cell(f"{rule} by 1/{factor} / {regime}", 5, regime, matrix) for regime in ("all", "io+bn")
            ]
    return cells


def full() -> list[Cell]:
    """All 3,991 training objects."""
    change = {"shots": None, "epochs": 8}
    return [_cell("scratch", 3, "scratch", **change)] + [
        _cell(f"{rule} / all", 3, "all", rule, **change) for rule in ("repeat", "center")
    ]


def squeezenet() -> list[Cell]:
    """SqueezeNet 1.1 with ImageNet weights. It has no normalisation,
    so the learning rate is lower and `io+bn` trains what `io` does.
    """
    change = {"image": SQUEEZENET, "lr": 0.02, "epochs": 20}
    cells = [_cell("scratch", 5, "scratch", **change)]
    return cells + [
        _cell(f"{rule} / {regime}", 5, regime, rule, **change)
        for rule in ("repeat", "center")
        for regime in ("all", "io")
    ]


STUDIES = {"few_shot": few_shot, "why": why, "norms": norms, "full": full, "squeezenet": squeezenet}


def run_one(cell: Cell, seed: int, root: Path, work: Path) -> dict[str, Any]:
    """Train one cell with one seed, or read what it measured before."""
    import torch

    import pointlift as pl
    from pointlift.data.config import DataConfig
    from pointlift.methods.image2point import Image2Point
    from pointlift.methods.optim import OptimConfig
    from pointlift.methods.trainer_config import TrainerConfig
    from pointlift.models.config import ModelConfig
    from pointlift.ops._numba.threading import set_threads

    torch.set_num_threads(1)
    set_threads(1)
    model = {**RESNET20, **cell.model}
    if model["weights"] is not None:
        image, function = model["image_model"].rsplit(":", 1)
        place = root / image if (root / image).is_file() else Path(__file__).parent / image
        model["image_model"], model["weights"] = f"{place}:{function}", str(root / model["weights"])
        if "resnet20" in image:
            # constants of the network, not in the file
            model["weights_may_differ"] = ["layer2.0.shortcut", "layer3.0.shortcut"]
    data = {"source": f"modelnet:{root / 'modelnet10_ply_hdf5_1024'}", "n_points": 1024, **cell.data}
    optim = {"lr": 0.1, **cell.optim}
    trainer = TrainerConfig(accelerator="cpu", enable_progress_bar=False, evaluate_every=optim["epochs"])
    folder = (
        work
        / f"{cell.name.replace(' / ', '_').replace(', ', '_').replace(' ', '_').replace('+', '-')}_seed{seed}"
    )
    with _quiet():
        recipe = Image2Point(ModelConfig(**model), DataConfig(**data), OptimConfig(**optim), trainer, seed)
        result = pl.fit(recipe, folder, resume=(folder / "last.ckpt").is_file())
    measured = {k: round(v, 5) for k, v in result.metrics.items() if k != "lr"}
    said = ("rule", "axis", "regime", "head", "stem", "shortcut_kernel")
    settings = {
        **{k: "matrix" if isinstance(v, list) else v for k, v in model.items() if k in said},
        **cell.data,
        **optim,
    }
    return {
        "cell": cell.name, "seed": seed, **settings, **measured, "trainable": result.trainable,
        "total": result.total, "seconds": round(result.seconds, 1),
    }  # fmt: skip


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def write_results(name: str, cells: list[Cell], rows: list[dict[str, Any]], out: Path) -> str:
    """STUDY.csv, STUDY.json and STUDY.md of what has finished; returns the table."""
    order = [c.name for c in cells]
    rows = sorted(rows, key=lambda r: (order.index(r["cell"]), r["seed"]))
    columns = list(dict.fromkeys(k for r in rows for k in r))
    write_csv(out / f"{name}.csv", columns, [[r.get(c, "") for c in columns] for r in rows])
    scratch = {
        (r["cell"].removesuffix("scratch"), r["seed"]): 100 * r["val_accuracy"]
        for r in rows
        if r["regime"] == "scratch"
    }
    header = [
        "cell",
        "runs",
        "test accuracy %",
        "class mean %",
        "train accuracy %",
        "minus scratch",
        "95 % interval",
        "trained %",
    ]
    body = []
    for cell in cells:
        mine = [r for r in rows if r["cell"] == cell.name]
        if not mine:
            continue
        line: list[Any] = [cell.name, len(mine)]
        line += [
            summarize([100 * r[k] for r in mine])
            for k in ("val_accuracy", "val_class_accuracy", "train_accuracy")
        ]
        group = next((g for g, _ in scratch if g and cell.name.startswith(g)), "")
        pairs = [
            (100 * r["val_accuracy"], scratch[group, r["seed"]])
            for r in mine
            if (group, r["seed"]) in scratch
        ]
        if cell.model["regime"] != "scratch" and len(pairs) > 1:
            d = paired_difference([a for a, _ in pairs], [b for _, b in pairs])
            line += [f"{d.mean:+.2f}", f"{d.ci_low:+.2f} to {d.ci_high:+.2f}"]
        else:
            line += ["", ""]
        body.append([*line, f"{100 * mine[0]['trainable'] / mine[0]['total']:.2f}"])
    with atomic_write(out / f"{name}.md") as path:
        path.write_text(f"# {name}\n\n" + markdown_table(header, body) + "\n", encoding="utf-8")
    protocol = {
        "study": name,
        "cells": [asdict(c) for c in cells],
        "reported": "last epoch, whole test split, one vote",
    }
    protocol["environment"] = environment()
    with atomic_write(out / f"{name}.json") as path:
        path.write_text(json.dumps(protocol, indent=1), encoding="utf-8")
    return console_table(header, body)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", choices=sorted(STUDIES))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("results/modelnet10"))
    parser.add_argument("--work", type=Path, default=Path("runs/modelnet10"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", help="cells whose name contains this")
    args = parser.parse_args()
    cells = STUDIES[args.study]()
    chosen = [c for c in cells if not args.only or args.only in c.name]
    args.out.mkdir(parents=True, exist_ok=True)
    # seed by seed, so that a study that is cut short has whole pairs
    jobs = [(c, s) for s in sorted({s for c in chosen for s in c.seeds}) for c in chosen if s in c.seeds]
    rows: list[dict[str, Any]] = []
    root, work = args.data.resolve(), (args.work / args.study).resolve()
    with ProcessPoolExecutor(args.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(run_one, c, s, root, work): (c, s) for c, s in jobs}
        for future in as_completed(futures):
            cell, seed = futures[future]
            if future.exception() is not None:
                pool.shutdown(wait=False, cancel_futures=True)
            rows.append(future.result())
            accuracy, seconds = 100 * rows[-1]["val_accuracy"], rows[-1]["seconds"]
            print(
                f"[{len(rows)}/{len(jobs)}] {cell.name} seed {seed}: {accuracy:.2f} %  {seconds} s",
                flush=True,
            )
            write_results(args.study, cells, rows, args.out)
    print(write_results(args.study, cells, rows, args.out))


if __name__ == "__main__":
    main()
