"""What each choice of PointCMT changes on ModelNet10: the runs behind results/modelnet10/pointcmt_choices.*.

    python tools/pointcmt_study.py --data FOLDER [--seeds 0 1 2] [--share 0.1] [--epochs 45]
        [--out results/modelnet10] [--work runs/pointcmt_choices]

FOLDER is that of tools/modelnet10_study.py. For every seed one image network (a ResNet-20 of CIFAR-10 on six
depth pictures of 32 pixels), one point generator for each way to measure its distance, and students that
share them: PointNet++ (SSG) of pointcmt/modelnet10.yaml on a share of the training objects. Finished runs are
not repeated; the table is written after every seed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from pointlift.evaluate.curves import paired_difference, summarize
from pointlift.report import write_csv
from pointlift.report.tables import markdown_table
from pointlift.system.atomic import atomic_write, read_json
from pointlift.system.environment import environment

STUDENT = "pointcmt/modelnet10.yaml"
VIEWS = {
    "kind": "projected",
    "rig": "simpleview-6",
    "size": 32,
    "splat": 2,
    "shade": "closeness",
    "augment": "true",
}
DROPOUT = {
    "npoint": [128, 32], "radii": [0.25, 0.5], "nsample": [16, 16],
    "mlps": [[32, 32, 64], [64, 64, 128]], "global_mlp": [128, 256, 512], "head": [512], "dropout": 0.5,
}  # fmt: skip
# the distance that each generator is trained with: the paper's, pointlift's of before, the released code's
GENERATORS = {
    "paper": ["--generator.box", "none"],
    "centred": ["--generator.box", "centred"],
    "released": [
        "--generator.box",
        "released",
        "--generator.kind",
        "linear",
        "--generator.loss_weight",
        "30",
    ],
}
GENERATED = {
    "paper": [],
    "centred": ["--generator.box", "centred"],
    "released": ["--generator.box", "released", "--generator.kind", "linear"],
}
# name: what it is, the generator, and its settings
STUDENTS: dict[str, tuple[str, str | None, list[str]]] = {
    "scratch": ("no images", None, ["--transfer.method", "none"]),
    "scratch_dropout": (
        "no images, dropout 0.5",
        None,
        ["--transfer.method", "none", "--model.options", json.dumps(DROPOUT)],
    ),
    "paper": ("PointCMT as the paper has it: no box, mean of the divergence", "paper", []),
    "paper_dropout": ("the same, dropout 0.5", "paper", ["--model.options", json.dumps(DROPOUT)]),
    "before_centred": ("clouds centred in a box before the distance", "centred", []),
    "kl_sum": ("the paper's, divergence summed over 32 objects", "paper", ["--transfer.kl_reduction", "sum"]),
    "released": (
        "the released code's generator, box and sum",
        "released",
        ["--transfer.kl_reduction", "sum"],
    ),
    "hinton": ("Hinton's distillation, equation 6", None, ["--transfer.method", "hinton"]),
}


def options(prefix: str, values: dict[str, Any]) -> list[str]:
    """{"size": 32} as ["--views.size", "32"]."""
    return [word for key, value in values.items() for word in (f"--{prefix}.{key}", str(value))]


def fit(plan: argparse.Namespace, name: str, recipe: str, *words: str) -> Path:
    """Train, or go on, unless the run is there. Raises CalledProcessError where it fails."""
    out: Path = plan.work / name
    if not (out / "result.json").is_file():
        command = [sys.executable, "-m", "pointlift.commands.main", "fit", recipe, "--out", str(out), *words]
        command += ["--resume"] if (out / "last.ckpt").is_file() else []
        with (plan.work / f"{name}.log").open("w") as log:
            subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)
    return out


def accuracy(folder: Path) -> float:
    return float(read_json(folder / "result.json")["metrics"]["val_accuracy"])


def one_seed(plan: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Test accuracies of the image network and of every student."""
    tail, data = f"_{plan.share}_{seed}", plan.data
    clouds = ["--data.source", f"modelnet:{data}/modelnet10_ply_hdf5_1024", "--data.share", str(plan.share)]
    image = options(
        "teacher", {"image_model": f"{data}/models2d/resnet20_cifar.py:ResNetCifar", "width": 512}
    )
    image += ["--teacher.weights", f"{data}/weights2d/cifar10_resnet20.th"]
    image += ["--teacher.weights_may_differ", "[layer2.0.shortcut,layer3.0.shortcut]", "--seed", str(seed)]
    teacher = fit(plan, f"teacher{tail}", "view_teacher/modelnet10.yaml", *clouds, *image)
    taught = [*clouds, *image, *options("views", VIEWS)]
    taught += ["--teacher.checkpoint", str(teacher / "model.safetensors")]
    generated = {
        name: fit(plan, f"gen_{name}{tail}", str(_generator_recipe(plan)), *taught, *words)
        for name, words in GENERATORS.items()
    }
    row: dict[str, Any] = {"seed": seed, "teacher": accuracy(teacher)}
    length = ["--optim.epochs", str(plan.epochs), "--trainer.evaluate_every", str(plan.epochs)]
    for name, (_, generator, words) in STUDENTS.items():
        given = [] if generator is None else GENERATED[generator]
        if generator is not None:
            given = [*given, "--generator.checkpoint", str(generated[generator] / "model.safetensors")]
        row[name] = accuracy(fit(plan, f"{name}{tail}", STUDENT, *taught, *given, *length, *words))
        print(json.dumps(row), flush=True)
    return row


def _generator_recipe(plan: argparse.Namespace) -> Path:
    """Stage II alone, with the settings of pointcmt/modelnet10.yaml."""
    path: Path = plan.work / "generator.yaml"
    path.write_text(
        "method: point_generator\nseed: 0\n"
        "generator: {n_points: 128, hidden: [512, 512], batch_size: 16}\n"
        "data: {n_points: 512, augment: true, augmentation: scale-shift, batch_size: 16}\n"
        "optim: {optimizer: adam, lr: 1.0e-3, weight_decay: 0.0, epochs: 12, schedule: constant}\n"
        "trainer: {accelerator: cpu, evaluate_every: 12}\n",
        encoding="utf-8",
    )
    return path


def write(rows: list[dict[str, Any]], plan: argparse.Namespace) -> None:
    """pointcmt_choices.csv, .json and .md."""
    columns = list(dict.fromkeys(k for r in rows for k in r))
    write_csv(plan.out / "pointcmt_choices.csv", columns, [[r.get(c, "") for c in columns] for r in rows])
    body: list[list[Any]] = [["image network", "", summarize([100 * r["teacher"] for r in rows]), "", ""]]
    for name, (what, _, _) in STUDENTS.items():
        values = [100 * r[name] for r in rows]
        line: list[Any] = [name, what, summarize(values), "", ""]
        if name != "scratch" and len(rows) > 1:
            d = paired_difference(values, [100 * r["scratch"] for r in rows])
            line[3:] = [f"{d.mean:+.1f}", f"{d.ci_low:+.1f} to {d.ci_high:+.1f}"]
        body.append(line)
    header = ["student", "what it is", "test accuracy %", "minus scratch", "95 % interval"]
    setting = f"{100 * plan.share:g} %, {plan.epochs} epochs, {len(rows)} seeds"
    title = f"# PointCMT's choices, ModelNet10, {setting}\n\n"
    with atomic_write(plan.out / "pointcmt_choices.md") as path:
        path.write_text(f"{title}{markdown_table(header, body)}\n", encoding="utf-8")
    protocol = {
        "share": plan.share,
        "epochs": plan.epochs,
        "reported": "last epoch, whole test split, one vote",
        "environment": environment(),
    }
    with atomic_write(plan.out / "pointcmt_choices.json") as path:
        path.write_text(json.dumps(protocol, indent=1), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=45)
    parser.add_argument("--out", type=Path, default=Path("results/modelnet10"))
    parser.add_argument("--work", type=Path, default=Path("runs/pointcmt_choices"))
    plan = parser.parse_args()
    plan.data, rows = plan.data.resolve(), []
    plan.work.mkdir(parents=True, exist_ok=True)
    for seed in plan.seeds:
        rows.append(one_seed(plan, seed))
        write(rows, plan)


if __name__ == "__main__":
    main()
