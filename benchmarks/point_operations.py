"""Point operations on the CPU: pointlift beside its torch reference, scipy, scikit-learn, torch and fpsample.

    python benchmarks/point_operations.py [--threads 2] [--rounds 9] [--only TEXT] [--tiny] [--out results/bench/point_operations.json]

Candidates of one workload take turns. Before timing, pointlift's result is compared with the reference's where that is affordable, and
every exact peer's distances with pointlift's. Peers get their own best layout (contiguous clouds, trees built inside the measured time, as
every training batch needs new ones); a peer that is not installed is left out and listed as such. fpsample's bucket sampling is
exact too and compared by its covering radius, because it may start or break ties differently.
"""

from __future__ import annotations

import argparse
import importlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from sklearn.neighbors import KDTree
from torch import Tensor

from pointlift.ops.interpolate import three_nn_interpolate
from pointlift.ops.neighbors import ball_query, group, knn
from pointlift.ops.sampling import farthest_point_sampling
from timing import environment, interleave, write_json
from workloads import lidar, objects, room

Run = Callable[[], Any]
Workload = tuple[str, dict[str, Run], Callable[[], dict[str, float]]]  # name, candidates, errors of the candidates
AFFORDABLE = 500_000_000  # distances that a quadratic peer may compute in a benchmark
SORTED = 40_000_000  # distances that the reference may sort


def batch(clouds: np.ndarray) -> tuple[Tensor, Tensor]:
    """(B, N, 3) -> xyz (B N, 3) and offsets (B + 1,)."""
    b, n, _ = clouds.shape
    return torch.from_numpy(np.ascontiguousarray(clouds).reshape(-1, 3)), torch.arange(b + 1) * n


def optional(name: str) -> tuple[Any, str]:
    """A module or None, and its version or why it is missing."""
    try:
        module = importlib.import_module(name)
    except ImportError as missing:
        return None, f"not installed ({missing})"
    return module, str(getattr(module, "__version__", "unknown"))


def covering_radius(cloud: np.ndarray, chosen: np.ndarray) -> float:
    return float(cKDTree(cloud[chosen]).query(cloud)[0].max())


def sampling(name: str, clouds: np.ndarray, n: int, fpsample: Any) -> Workload:
    """Farthest point sampling: how far its choice covers, beside the peers."""
    xyz, offsets = batch(clouds)
    candidates: dict[str, Run] = {"pointlift": lambda: farthest_point_sampling(xyz, offsets, n)}
    if len(clouds) * clouds.shape[1] * n <= AFFORDABLE:
        candidates["reference"] = lambda: farthest_point_sampling(xyz, offsets, n, backend="reference")
    if fpsample is not None:
        height = 3 if clouds.shape[1] <= 4096 else 7 if clouds.shape[1] <= 200_000 else 9
        candidates["fpsample bucket"] = lambda: [fpsample.bucket_fps_kdline_sampling(c, n, height, start_idx=0) for c in clouds]

    def errors() -> dict[str, float]:
        own = candidates["pointlift"]()
        found = {}
        if "reference" in candidates:
            found["reference"] = float((own != candidates["reference"]()).sum())
        if "fpsample bucket" in candidates:
            theirs = np.asarray(candidates["fpsample bucket"]()[0]).astype(np.int64)
            radius = covering_radius(clouds[0], own[0].numpy())
            found["fpsample bucket"] = abs(covering_radius(clouds[0], theirs) / radius - 1)
        return found

    return f"farthest points {name} -> {n}", candidates, errors


def nearest(name: str, queries: np.ndarray, clouds: np.ndarray, k: int, threads: int) -> Workload:
    """k nearest neighbours, beside scipy, scikit-learn and torch."""
    query, asked = batch(queries)
    points, offsets = batch(clouds)
    pairs = len(clouds) * clouds.shape[1] * queries.shape[1]
    candidates: dict[str, Run] = {
        "pointlift": lambda: knn(query, points, k, asked, offsets)[0],
        "scipy cKDTree": lambda: np.concatenate([cKDTree(p).query(q, k, workers=threads)[0] ** 2 for q, p in zip(queries, clouds)]),
    }
    if pairs <= AFFORDABLE:
        q3, p3 = torch.from_numpy(queries), torch.from_numpy(clouds)
        # not in matrix-product mode, which loses near-duplicates
        direct = "donot_use_mm_for_euclid_dist"
        candidates["torch cdist + topk"] = lambda: (
            torch.cdist(q3, p3, compute_mode=direct).topk(k, largest=False).values.square().reshape(-1, k)
        )
        candidates["scikit-learn KDTree"] = lambda: np.concatenate([KDTree(p).query(q, k)[0] ** 2 for q, p in zip(queries, clouds)])
    if pairs <= SORTED:
        candidates["reference"] = lambda: knn(query, points, k, asked, offsets, backend="reference")[0]

    def errors() -> dict[str, float]:
        own = candidates["pointlift"]().double().numpy()
        scale = float(own.max())
        return {c: float(np.abs(np.asarray(run()) - own).max()) / scale for c, run in candidates.items() if c != "pointlift"}

    return f"{k} nearest {name}", candidates, errors


def balls(name: str, queries: np.ndarray, clouds: np.ndarray, radius: float, k: int, threads: int) -> Workload:
    """Ball query, beside its peers."""
    query, asked = batch(queries)
    points, offsets = batch(clouds)
    q3, p3 = torch.from_numpy(queries), torch.from_numpy(clouds)
    first = torch.arange(len(clouds))[:, None, None] * clouds.shape[1]

    def with_torch() -> Tensor:
        inside = torch.cdist(q3, p3, compute_mode="donot_use_mm_for_euclid_dist") < radius
        number = torch.where(inside, torch.arange(clouds.shape[1]), clouds.shape[1]).topk(k, largest=False).values.sort(-1).values
        return (torch.where(number < clouds.shape[1], number, number[..., :1]) + first).reshape(-1, k)

    def with_scipy() -> list[Any]:
        # finds every point of a ball; cutting to the first k is left out in its favour
        return [cKDTree(p).query_ball_point(q, radius, workers=threads, return_sorted=True) for q, p in zip(queries, clouds)]

    candidates: dict[str, Run] = {
        "pointlift": lambda: ball_query(query, points, radius, k, asked, offsets),
        "torch cdist + topk": with_torch,
        "scipy query_ball_point": with_scipy,
        "reference": lambda: ball_query(query, points, radius, k, asked, offsets, backend="reference"),
    }

    def errors() -> dict[str, float]:
        own = candidates["pointlift"]()
        # share of indices that differ: a root rounds, so peers may put a point on the sphere on its other side
        found = {c: float((candidates[c]() != own).double().mean()) for c in ("torch cdist + topk", "reference")}
        first_ball = set(own[0].tolist())
        found["scipy query_ball_point"] = float(len(first_ball - set(with_scipy()[0][0])))
        return found

    return f"balls of radius {radius:g}, {k} {name}", candidates, errors


def interpolation(name: str, coarse: np.ndarray, fine: np.ndarray, channels: int) -> list[Workload]:
    """Three-point interpolation, forward and with backward."""
    points, offsets = batch(coarse)
    query, asked = batch(fine)
    g = torch.Generator().manual_seed(0)
    features = torch.randn(points.shape[0], channels, generator=g)
    grad = torch.randn(query.shape[0], channels, generator=g)
    q3, p3, f3 = torch.from_numpy(fine), torch.from_numpy(coarse), features.reshape(len(coarse), -1, channels)

    def with_torch(values: Tensor) -> Tensor:
        near = torch.cdist(q3, p3, compute_mode="donot_use_mm_for_euclid_dist").topk(3, largest=False)
        weight = 1 / (near.values.square() + 1e-8)
        weight = weight / weight.sum(-1, keepdim=True)
        rows = near.indices.reshape(len(coarse), -1, 1).expand(-1, -1, channels)
        taken = values.reshape(f3.shape).gather(1, rows).reshape(*near.indices.shape, channels)
        return (taken * weight[..., None]).sum(2).reshape(-1, channels)

    forward: dict[str, Callable[[Tensor], Tensor]] = {
        "pointlift": lambda f: three_nn_interpolate(f, points, query, offsets, asked),
        "torch cdist + topk + gather": with_torch,
        "reference": lambda f: three_nn_interpolate(f, points, query, offsets, asked, backend="reference"),
    }

    def both(call: Callable[[Tensor], Tensor]) -> Tensor:
        leaf = features.detach().requires_grad_()
        call(leaf).backward(grad)
        assert leaf.grad is not None
        return leaf.grad

    def workload(what: str, runs: dict[str, Run]) -> Workload:
        def errors() -> dict[str, float]:
            own = runs["pointlift"]()
            return {c: float((run() - own).abs().max() / own.abs().max()) for c, run in runs.items() if c != "pointlift"}

        return f"interpolation {name}, {channels} channels, {what}", runs, errors

    return [
        workload("forward", {c: (lambda call=call: call(features)) for c, call in forward.items()}),
        workload("forward + backward", {c: (lambda call=call: both(call)) for c, call in forward.items()}),
    ]


def grouping(name: str, queries: np.ndarray, clouds: np.ndarray, k: int, channels: int) -> Workload:
    """Gathering neighbours, forward and with backward."""
    query, asked = batch(queries)
    points, offsets = batch(clouds)
    index = knn(query, points, k, asked, offsets)[1]
    g = torch.Generator().manual_seed(0)
    features = torch.randn(points.shape[0], channels, generator=g)
    grad = torch.randn(*index.shape, channels, generator=g)

    def both(call: Callable[[Tensor], Tensor]) -> Tensor:
        leaf = features.detach().requires_grad_()
        call(leaf).backward(grad)
        assert leaf.grad is not None
        return leaf.grad

    candidates: dict[str, Run] = {
        "pointlift": lambda: both(lambda f: group(f, index)),
        "torch indexing": lambda: both(lambda f: f[index]),
        "torch index_select": lambda: both(lambda f: f.index_select(0, index.reshape(-1)).reshape(*index.shape, channels)),
    }

    def errors() -> dict[str, float]:
        own = candidates["pointlift"]()
        return {c: float((run() - own).abs().max() / own.abs().max()) for c, run in candidates.items() if c != "pointlift"}

    return f"grouping {name}, {k} neighbours, {channels} channels, forward + backward", candidates, errors


def workloads(tiny: bool, threads: int, fpsample: Any) -> list[Callable[[], list[Workload]]]:
    """Makers, so that only what is asked for is generated."""
    b, n, m = (2, 256, 64) if tiny else (32, 2048, 512)
    big, huge = (3000, 9000) if tiny else (100_000, 1_000_000)
    clouds = objects(b, n)
    scan = room(6500 if tiny else 200_000)
    rng = np.random.default_rng(0)
    few = clouds[:, :m]
    shape = f"{b} x ({m} of {n})"
    return [
        lambda: [sampling(f"{b} x {n // 2}", clouds[:, : n // 2].copy(), m, fpsample)],
        lambda: [sampling(f"{b} x {n}", clouds, m, fpsample)],
        lambda: [sampling(f"{big}", rng.random((1, big, 3), np.float32), big // 10, fpsample)],
        lambda: [sampling(f"{huge}", rng.random((1, huge, 3), np.float32), min(2048, huge // 10), fpsample)],
        lambda: [nearest(shape, few, clouds, 32, threads)],
        lambda: [nearest(f"{b} x {n} with itself", clouds, clouds, 20, threads)],
        lambda: [nearest(f"room of {len(scan)} with itself", scan[None], scan[None], 16, threads)],
        lambda: [nearest("LiDAR sweep with itself", *[lidar()[None, : 6500 if tiny else None]] * 2, 16, threads)],
        lambda: [balls(shape, few, clouds, 0.2, 16 if tiny else 64, threads)],
        lambda: interpolation(f"{b} x ({n} from {m})", few.copy(), clouds, 8 if tiny else 128),
        lambda: [grouping(shape, few, clouds, 16 if tiny else 32, 8 if tiny else 64)],
    ]


def show(row: dict[str, Any]) -> None:
    print(f"\n{row['name']}")
    own = row["seconds"]["pointlift"]["median"]
    for name, s in row["seconds"].items():
        error = row["errors"].get(name)
        note = "" if error is None else f"   difference {error:.1e}"
        line = f"{1e3 * s['median']:10.2f} ms  ({1e3 * s['q1']:.2f} ... {1e3 * s['q3']:.2f}, n={s['runs']})"
        print(f"   {name:<30}{line}  {s['median'] / own:6.2f} x{note}")


def main() -> None:
    """Run the workloads, print and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="run the workloads whose name holds this text")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to try the script")
    parser.add_argument("--out", type=Path, default=Path("results/bench/point_operations.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    fpsample, version = optional("fpsample")
    before = environment()
    content: dict[str, Any] = {"environment": before, "fpsample": version, "tiny": args.tiny, "workloads": []}
    for make in workloads(args.tiny, args.threads, fpsample):
        for name, candidates, errors in make():
            if args.only not in name:
                continue
            found = errors()
            if not all(math.isfinite(e) for e in found.values()):
                raise SystemExit(f"{name}: a candidate's result is not finite: {found}")
            row = {"name": name, "errors": found, "seconds": interleave(candidates, args.rounds)}
            content["workloads"].append(row)
            show(row)
    content["environment"]["load_average_after"] = environment()["load_average"]
    content["environment"]["threading_layer"] = environment()["threading_layer"]
    write_json(args.out, content)
    print(f"\nwritten: {args.out}")


if __name__ == "__main__":
    main()
