"""Chamfer and earth mover's distances of clouds on the CPU: pointlift beside POT, geomloss, scipy and torch.

    python benchmarks/set_distances.py [--threads 2] [--rounds 7] [--only TEXT] [--tiny]
        [--out results/bench/set_distances.json]

Candidates take turns on the same clouds. Beside every time stands the error of the result. Earth mover's
distances: the mean of |distance - optimum| over the pairs, divided by the mean optimum (scipy, float64), and
whether what came back is a bijection. Chamfer: the largest relative error of value and gradients from
torch.cdist in float64 without its matrix-product mode. POT and geomloss are measured where they can be
imported; geomloss and the reference on two pairs, their times scaled to the batch.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor

from pointlift.ops.distances import chamfer_distance, match_points
from timing import environment, environment_after, interleave, optional, write_json
from workloads import objects

Run = Callable[[], Any]
Errors = dict[str, dict[str, float]]
SLOW = {"geomloss", "reference"}  # measured on a few pairs; their times are scaled to the batch
FEW = 2


# ---------------------------------------------------------------- earth mover
def scipy_pair(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The optimal bijection of a (n, 3) and b (n, 3)."""
    return np.asarray(linear_sum_assignment(cdist(a, b))[1])


def pot_pair(ot: Any, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The same by POT's network simplex, whose plan between uniform weights is a permutation."""
    plan = ot.emd([], [], cdist(a.astype(np.float64), b.astype(np.float64)), numItermax=10_000_000)
    return np.asarray(plan).argmax(1)


def transport(
    a: np.ndarray, b: np.ndarray, threads: int, ot: Any, geomloss: Any
) -> tuple[dict[str, Run], dict[str, int]]:
    """Candidates, each giving bijections (B, n) or distances (B,), and how many pairs each is run on."""
    x, y = torch.from_numpy(a), torch.from_numpy(b)
    pairs = len(a)
    moved = x + 3e-3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    before = match_points(moved, y, epsilon=1e-3).prices  # as from an earlier step of training
    pool = ThreadPoolExecutor(threads)

    def each(one: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Run:
        return lambda: np.stack(list(pool.map(one, a, b)))

    runs: dict[str, Run] = {
        "pointlift auction 1e-2": lambda: match_points(x, y, epsilon=1e-2).assignment.numpy(),
        "pointlift auction 1e-3": lambda: match_points(x, y, epsilon=1e-3).assignment.numpy(),
        "pointlift auction 1e-2, prices of before": lambda: match_points(
            x, y, epsilon=1e-2, prices=before
        ).assignment.numpy(),
        "scipy linear_sum_assignment": each(scipy_pair),
        "reference": lambda: match_points(
            x[:FEW], y[:FEW], epsilon=1e-2, backend="reference"
        ).assignment.numpy(),
    }
    if ot is not None:
        runs["POT emd"] = each(lambda one, other: pot_pair(ot, one, other))
    if geomloss is not None:
        loss = geomloss.SamplesLoss("sinkhorn", p=1, blur=0.01, debias=False, backend="tensorized")
        runs["geomloss"] = lambda: loss(x[:FEW], y[:FEW]).numpy()
    return runs, {name: min(FEW, pairs) if name in SLOW else pairs for name in runs}


def transport_errors(a: np.ndarray, b: np.ndarray, runs: dict[str, Run]) -> Errors:
    """Mean error over mean optimum of every candidate, and 1 where it gave bijections."""
    optimum = np.array(
        [
            np.linalg.norm(p - q[scipy_pair(p, q)], axis=1).mean()
            for p, q in zip(a.astype(np.float64), b.astype(np.float64))
        ]
    )
    errors: Errors = {}
    for name, run in runs.items():
        found = np.asarray(run())
        if found.ndim == 1:
            value, bijective = found.astype(np.float64), 0.0
        else:
            value = np.array([np.linalg.norm(p - q[rows], axis=1).mean() for p, q, rows in zip(a, b, found)])
            bijective = float(all(np.array_equal(np.sort(rows), np.arange(rows.size)) for rows in found))
        own = optimum[: len(value)]
        errors[name] = {
            "relative_error": float(np.abs(value - own).mean() / own.mean()),
            "bijection": bijective,
        }
    return errors


def bench_transport(pairs: int, n: int, rounds: int, threads: int, peers: dict[str, Any]) -> dict[str, Any]:
    """One batch of pairs of objects."""
    clouds = objects(2 * pairs, n)
    a, b = clouds[:pairs].copy(), clouds[pairs:].copy()
    runs, counts = transport(a, b, threads, peers["ot"], peers["geomloss"])
    errors = transport_errors(a, b, runs)  # also the warm-up
    seconds = interleave(runs, rounds, warmup=0, budget=12.0)
    for name, count in counts.items():
        if count != pairs:
            seconds[name] = {
                k: v * (pairs / count if k != "runs" else 1) for k, v in seconds[name].items()
            } | {"measured_pairs": count}
    return {"name": f"earth mover, {pairs} x {n}", "errors": errors, "seconds": seconds}


# ---------------------------------------------------------------- Chamfer
def cdist_chamfer(a: Tensor, b: Tensor) -> Tensor:
    """As most code has it: all distances, then minima."""
    d = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
    return d.amin(2).square().mean(1) + d.amin(1).square().mean(1)


def bmm_chamfer(a: Tensor, b: Tensor) -> Tensor:
    """|a|^2 - 2ab + |b|^2 by a batched product: fast, and wrong where distances are small."""
    d = a.square().sum(2)[:, :, None] + b.square().sum(2)[:, None] - 2 * torch.bmm(a, b.transpose(1, 2))
    return d.amin(2).mean(1) + d.amin(1).mean(1)


def both_ways(
    call: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Value and gradients."""
    x, y = a.detach().requires_grad_(), b.detach().requires_grad_()
    value = call(x, y)
    value.sum().backward()
    assert x.grad is not None and y.grad is not None
    return value.detach(), x.grad, y.grad


def bench_chamfer(pairs: int, n: int, rounds: int) -> dict[str, Any]:
    """Forward and backward of one batch of clouds."""
    points = objects(1, 2 * pairs * n)[0].reshape(2 * pairs, n, 3) if n < 256 else objects(2 * pairs, n)
    a, b = torch.from_numpy(points[:pairs].copy()), torch.from_numpy(points[pairs:].copy())
    calls: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "pointlift": chamfer_distance,
        "torch cdist": cdist_chamfer,
        "torch bmm": bmm_chamfer,
    }
    exact = both_ways(cdist_chamfer, a.double(), b.double())
    errors = {}
    for name, call in calls.items():
        found = both_ways(call, a, b)
        errors[name] = {
            "relative_error": max(float((f - e).abs().max() / e.abs().max()) for f, e in zip(found, exact))
        }
    runs: dict[str, Run] = {name: (lambda call=call: both_ways(call, a, b)) for name, call in calls.items()}
    return {
        "name": f"Chamfer, {pairs} x {n}, forward + backward",
        "errors": errors,
        "seconds": interleave(runs, 5 * rounds, budget=6.0),
    }


def show(row: dict[str, Any]) -> None:
    """Print a workload: the time of every candidate beside pointlift's, and its error."""
    print(f"\n{row['name']}")
    own = next(iter(row["seconds"].values()))["median"]
    for name, s in row["seconds"].items():
        error = row["errors"][name]
        note = "" if error.get("bijection", 1.0) else ", not a bijection"
        print(
            f"   {name:<42}{1e3 * s['median']:10.2f} ms (min {1e3 * s['min']:.2f}, n={s['runs']:.0f})  "
            f"{s['median'] / own:7.2f} x"
            f"   error {error['relative_error']:.1e}{note}"
        )


def main() -> None:
    """Run the workloads, print and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="run the workloads whose name holds this text")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to try the script")
    parser.add_argument("--out", type=Path, default=Path("results/bench/set_distances.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found = {name: optional(name) for name in ("ot", "geomloss")}
    peers = {name: module for name, (module, _) in found.items()}
    content: dict[str, Any] = {
        "environment": environment(),
        "peers": {name: version for name, (_, version) in found.items()},
        "tiny": args.tiny,
        "workloads": [],
    }
    matched = [(4, 128)] if args.tiny else [(32, 256), (32, 1024)]
    paired = [(2, 256), (16, 32)] if args.tiny else [(8, 2048), (128, 32), (32, 1024)]
    tasks = [(f"Chamfer {b} x {n}", lambda b=b, n=n: bench_chamfer(b, n, args.rounds)) for b, n in paired]
    tasks += [
        (f"earth mover {b} x {n}", lambda b=b, n=n: bench_transport(b, n, args.rounds, args.threads, peers))
        for b, n in matched
    ]
    for name, task in tasks:
        if args.only in name:
            content["workloads"].append(task())
            show(content["workloads"][-1])
            content["environment"] = environment_after(content["environment"])
            # after every workload: the slow peers of the last one may be interrupted
            write_json(args.out, content)
    print(f"\nwritten: {args.out}")


if __name__ == "__main__":
    main()
