"""Image weights against scratch on ModelNet10, each arm tuned alike: the runs behind
results/modelnet10/fair_*.

    python tools/fair_study.py NETWORK --data FOLDER [--out results/modelnet10] [--work runs/fair]
        [--epochs 300] [--seeds 5] [--choose_seeds 2] [--voxel 0.1]

FOLDER is that of tools/modelnet10_study.py. First every arm's learning rate, and for image weights the rule
too, is chosen from one grid: runs that train on four fifths of the ten shots of every class, judged on the
other fifth at the last epoch, mean over the seeds. Then every arm trains on all its shots with what was
chosen, at 1, 5 and 10 shots (one shot leaves nothing to hold out, so the choice at ten shots serves all), and
meets the test split once. Finished runs are not repeated and a killed study goes on where it stopped; the
table is written after every run.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelnet10_study import RESNET20, SQUEEZENET, Cell, run_one
from pointlift.evaluate.curves import paired_difference, summarize
from pointlift.report import write_csv
from pointlift.report.tables import markdown_table
from pointlift.system.atomic import atomic_write
from pointlift.system.environment import environment

SHOTS = (10, 5, 1)
HELD_OUT = 0.2


@dataclass(frozen=True)
class Network:
    """An image network with its weights, and the learning rates its arms may choose from."""

    model: dict[str, Any]
    rates: tuple[float, ...]


NETWORKS = {
    "resnet20": Network(RESNET20, (0.03, 0.1, 0.3)),
    "squeezenet": Network(SQUEEZENET, (0.005, 0.02, 0.05)),
    "mobilenetv2": Network(
        {"image_model": "torchvision:mobilenet_v2", "weights": "weights2d/mobilenet_v2-b0353104.pth"},
        (0.03, 0.1, 0.3),
    ),
    "efficientnet_lite0": Network(
        {"image_model": "efficientnet_lite0_imagenet", "weights": None}, (0.03, 0.1, 0.3)
    ),
}
ARMS = {"scratch": ("repeat",), "all": ("repeat", "center")}


def candidates(network: Network, arm: str) -> list[dict[str, Any]]:
    """What one arm may choose from: every learning rate with every rule."""
    return [{"lr": lr, "rule": rule} for rule in ARMS[arm] for lr in network.rates]


def cell(network: Network, arm: str, choice: dict[str, Any], shots: int, plan: argparse.Namespace) -> Cell:
    """One training of an arm with one choice."""
    name = f"{plan.network} {arm} {choice['rule']} lr{choice['lr']} shots{shots}"
    model = {**network.model, "regime": arm, "rule": choice["rule"]}
    optim = {"epochs": plan.epochs, "lr": choice["lr"]}
    return Cell(name, (), model, {"shots": shots, "voxel_size": plan.voxel}, optim)


def chosen(rows: Sequence[dict[str, Any]], arm: str, plan: argparse.Namespace) -> dict[str, Any] | None:
    """The choice with the best mean held-out accuracy; None while one is missing a seed."""
    network, best = NETWORKS[plan.network], None
    for choice in candidates(network, arm):
        mine = [
            r["held_out"]
            for r in rows
            if r["phase"] == "choose" and r["arm"] == arm and all(r[k] == v for k, v in choice.items())
        ]
        if len(mine) < plan.choose_seeds:
            return None
        mean = sum(mine) / len(mine)
        if best is None or mean > best[0]:
            best = (mean, choice)
    return best[1] if best else None


def run_choice(arm: str, choice: dict[str, Any], seed: int, plan: argparse.Namespace) -> dict[str, Any]:
    """A run on four fifths of ten shots; only its held-out accuracy is kept."""
    one = cell(NETWORKS[plan.network], arm, choice, 10, plan)
    held = Cell(one.name + " heldout", (), one.model, {**one.data, "val_fraction": HELD_OUT}, one.optim)
    measured = run_one(held, seed, plan.data, plan.work)
    return {
        "phase": "choose", "arm": arm, **choice, "shots": 10, "seed": seed,
        "held_out": measured["val_accuracy"], "train_accuracy": measured["train_accuracy"],
        "seconds": measured["seconds"],
    }  # fmt: skip


def run_judged(
    arm: str, choice: dict[str, Any], shots: int, seed: int, plan: argparse.Namespace
) -> dict[str, Any]:
    """A run on all shots, judged on the whole test split at the last epoch."""
    measured = run_one(cell(NETWORKS[plan.network], arm, choice, shots, plan), seed, plan.data, plan.work)
    return {
        "phase": "judge", "arm": arm, **choice, "shots": shots, "seed": seed,
        "test_accuracy": measured["val_accuracy"], "train_accuracy": measured["train_accuracy"],
        "seconds": measured["seconds"],
    }  # fmt: skip


def choice_table(rows: Sequence[dict[str, Any]], plan: argparse.Namespace) -> str:
    """Held-out accuracy of every candidate, the chosen ones marked."""
    body = []
    for arm in ARMS:
        best = chosen(rows, arm, plan)
        for choice in candidates(NETWORKS[plan.network], arm):
            mine = [
                100 * r["held_out"]
                for r in rows
                if r["phase"] == "choose" and r["arm"] == arm and all(r[k] == v for k, v in choice.items())
            ]
            if mine:
                rule = choice["rule"] if arm == "all" else "(no image weights)"
                mark = "chosen" if choice == best else ""
                body.append([arm, rule, str(choice["lr"]), len(mine), summarize(mine), mark])
    return markdown_table(["arm", "rule", "learning rate", "runs", "held-out accuracy %", ""], body)


def judged_table(rows: Sequence[dict[str, Any]]) -> str:
    """Test accuracy of both arms at every number of shots, and their difference seed by seed."""
    body = []
    for shots in SHOTS:
        by_arm = {
            arm: {
                r["seed"]: 100 * r["test_accuracy"]
                for r in rows
                if r["phase"] == "judge" and r["arm"] == arm and r["shots"] == shots
            }
            for arm in ARMS
        }
        both = sorted(by_arm["scratch"].keys() & by_arm["all"].keys())
        if not both:
            continue
        scratch, image = ([by_arm[arm][s] for s in both] for arm in ("scratch", "all"))
        line: list[Any] = [shots, len(both), summarize(scratch), summarize(image), "", ""]
        if len(both) > 1:
            d = paired_difference(image, scratch)
            line[4:] = [f"{d.mean:+.2f}", f"{d.ci_low:+.2f} to {d.ci_high:+.2f}"]
        body.append(line)
    header = ["shots", "seeds", "scratch %", "image weights %", "difference", "95 % interval"]
    return markdown_table(header, body)


def write(rows: Sequence[dict[str, Any]], plan: argparse.Namespace) -> None:
    """fair_NETWORK.csv, .json and .md of what has finished."""
    name = f"fair_{plan.network}"
    columns = list(dict.fromkeys(k for r in rows for k in r))
    write_csv(plan.out / f"{name}.csv", columns, [[r.get(c, "") for c in columns] for r in rows])
    title = f"# {plan.network}, {plan.epochs} epochs, voxel {plan.voxel}, ModelNet10\n\n"
    text = title + choice_table(rows, plan) + "\n\n" + judged_table(rows) + "\n"
    with atomic_write(plan.out / f"{name}.md") as path:
        path.write_text(text, encoding="utf-8")
    said = {
        k: str(v) if isinstance(v, Path) else v for k, v in vars(plan).items() if k not in ("data", "work")
    }
    protocol = {
        **said,
        "held_out": HELD_OUT,
        "grid": {arm: candidates(NETWORKS[plan.network], arm) for arm in ARMS},
        "reported": "last epoch, whole test split, one vote",
        "environment": environment(),
    }
    with atomic_write(plan.out / f"{name}.json") as path:
        path.write_text(json.dumps(protocol, indent=1), encoding="utf-8")


def study(plan: argparse.Namespace) -> None:
    """Both phases, one run after the other; seeds turn slowest, so that a part of the study is of use."""
    rows: list[dict[str, Any]] = []

    def done(row: dict[str, Any]) -> None:
        rows.append(row)
        write(rows, plan)
        print(json.dumps(row), flush=True)

    for seed in range(plan.choose_seeds):
        for arm in ARMS:
            for choice in candidates(NETWORKS[plan.network], arm):
                done(run_choice(arm, choice, seed, plan))
    for seed in range(plan.seeds):
        for shots in SHOTS:
            for arm in ARMS:
                best = chosen(rows, arm, plan)
                assert best is not None, "all candidates have run"
                done(run_judged(arm, best, shots, seed, plan))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network", choices=sorted(NETWORKS))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("results/modelnet10"))
    parser.add_argument("--work", type=Path, default=Path("runs/fair"))
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--choose_seeds", type=int, default=2)
    parser.add_argument("--voxel", type=float, default=0.1)
    plan = parser.parse_args()
    plan.data = plan.data.resolve()
    study(plan)


if __name__ == "__main__":
    main()
