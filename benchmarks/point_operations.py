"""Point operations on the CPU: pointlift beside its torch reference, pykdtree, open3d, scipy,
scikit-learn, torch and fpsample.

    python benchmarks/point_operations.py [--threads 2] [--rounds 7] [--only TEXT] [--tiny] [--note TEXT]
        [--out FILE]

Candidates of one workload take turns. Before timing, pointlift's result is compared with the reference's
where that is affordable, and every exact peer's distances with pointlift's; a peer that is off by more than
TOLERANCE is named and not timed. Peers get their own best layout (contiguous clouds, trees built inside the
measured time, as every training batch needs new ones); a peer that is not installed is left out and listed as
such. fpsample's bucket sampling is exact too and compared by its covering radius, because it may start or
break ties differently.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import os
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
from timing import environment, environment_after, interleave, optional, write_json
from workloads import lidar, objects, room

Run = Callable[[], Any]
# name, candidates, errors of the candidates
Workload = tuple[str, dict[str, Run], Callable[[], dict[str, float]]]
AFFORDABLE = 40_000_000  # distances that a quadratic peer may compute in a benchmark
SORTED = 4_000_000  # distances that the reference, which is made to be right and not fast, may sort
TOLERANCE = 1e-4  # relative; peers take roots, compute in float64 or sum in another order
COVERING = 0.05  # relative, of the covering radius of a sampling


def batch(clouds: np.ndarray) -> tuple[Tensor, Tensor]:
    """(B, N, 3) -> xyz (B N, 3) and offsets (B + 1,)."""
    b, n, _ = clouds.shape
    return torch.from_numpy(np.ascontiguousarray(clouds).reshape(-1, 3)), torch.arange(b + 1) * n


def peers(threads: int) -> tuple[dict[str, Any], dict[str, str]]:
    """The modules of the peers that are installed, and the versions of all."""
    # pykdtree reads its number of threads from OMP_NUM_THREADS when it is imported; open3d likewise
    os.environ["OMP_NUM_THREADS"] = str(threads)
    modules, versions = {}, {}
    for name in ("fpsample", "pykdtree.kdtree", "open3d", "scipy", "sklearn"):
        module, version = optional(name)
        package = name.partition(".")[0]
        if module is None:
            versions[package] = version
        else:
            modules[package] = module
            versions[package] = importlib.metadata.version({"sklearn": "scikit-learn"}.get(package, package))
    return modules, versions


def covering_radius(cloud: np.ndarray, chosen: np.ndarray) -> float:
    return float(cKDTree(cloud[chosen]).query(cloud)[0].max())


def sampling(name: str, clouds: np.ndarray, n: int, fpsample: Any) -> Workload:
    """Farthest point sampling: how far its choice covers, beside the peers."""
    xyz, offsets = batch(clouds)
    candidates: dict[str, Run] = {"pointlift": lambda: farthest_point_sampling(xyz, offsets, n)}
    if len(clouds) * clouds.shape[1] * n <= SORTED:
        candidates["reference"] = lambda: farthest_point_sampling(xyz, offsets, n, backend="reference")
    if fpsample is not None:
        height = 3 if clouds.shape[1] <= 4096 else 7 if clouds.shape[1] <= 200_000 else 9
        candidates["fpsample bucket"] = lambda: [
            fpsample.bucket_fps_kdline_sampling(c, n, height, start_idx=0) for c in clouds
        ]

    def errors() -> dict[str, float]:
        """How far each candidate's result is from pointlift's, or pointlift's from the reference's;
        0 is equal.
        """
        own = candidates["pointlift"]()
        found: dict[str, float] = {}
        if "reference" in candidates:
            found["reference"] = float((own != candidates["reference"]()).sum())
        elif clouds.shape[1] * n <= AFFORDABLE:
            first, ends = torch.from_numpy(clouds[0]), offsets[:2]
            found["reference, first cloud"] = float(
                (own[:1] != farthest_point_sampling(first, ends, n, backend="reference")).sum()
            )
        if "fpsample bucket" in candidates:
            theirs = np.asarray(candidates["fpsample bucket"]()[0]).astype(np.int64)
            radius = covering_radius(clouds[0], own[0].numpy())
            found["fpsample bucket"] = abs(covering_radius(clouds[0], theirs) / radius - 1)
        return found

    return f"farthest points {name} -> {n}", candidates, errors


def tree_peers(
    queries: np.ndarray, clouds: np.ndarray, k: int, installed: dict[str, Any]
) -> dict[str, Callable[[], tuple[Any, Any]]]:
    """Squared distances (B Q, k) and rows (B Q, k), by the peers that are built for this."""
    step = np.arange(len(clouds))[:, None, None] * clouds.shape[1]

    def joined(found: list[tuple[Any, Any]]) -> tuple[Any, Any]:
        index = np.stack([i for _, i in found]).astype(np.int64).reshape(len(clouds), -1, k) + step
        return np.concatenate([d.reshape(-1, k) for d, _ in found]), index.reshape(-1, k)

    out: dict[str, Callable[[], tuple[Any, Any]]] = {}
    if "pykdtree" in installed:
        tree = installed["pykdtree"].KDTree
        out["pykdtree"] = lambda: joined(
            [tree(p).query(q, k, sqr_dists=True) for q, p in zip(queries, clouds)]
        )
    if "open3d" in installed:
        core = installed["open3d"].core

        def one(q: np.ndarray, p: np.ndarray) -> tuple[Any, Any]:
            search = core.nns.NearestNeighborSearch(core.Tensor(p))
            search.knn_index()
            index, squared = search.knn_search(core.Tensor(q), k)
            return squared.numpy(), index.numpy()

        out["open3d"] = lambda: joined([one(np.ascontiguousarray(q), p) for q, p in zip(queries, clouds)])
    return out


def nearest(
    name: str, queries: np.ndarray, clouds: np.ndarray, k: int, threads: int, installed: dict[str, Any]
) -> Workload:
    """k nearest neighbours, beside pykdtree, open3d, scipy, scikit-learn and torch."""
    query, asked = batch(queries)
    points, offsets = batch(clouds)
    pairs = len(clouds) * clouds.shape[1] * queries.shape[1]
    candidates: dict[str, Run] = {
        "pointlift": lambda: knn(query, points, k, asked, offsets)[0],
        "scipy cKDTree": lambda: np.concatenate(
            [cKDTree(p).query(q, k, workers=threads)[0] ** 2 for q, p in zip(queries, clouds)]
        ),
    }
    for peer, search in tree_peers(queries, clouds, k, installed).items():
        candidates[peer] = lambda search=search: search()[0]
    if pairs <= AFFORDABLE:
        q3, p3 = torch.from_numpy(queries), torch.from_numpy(clouds)
        # not in matrix-product mode, which loses near-duplicates
        direct = "donot_use_mm_for_euclid_dist"
        candidates["torch cdist + topk"] = lambda: (
            torch.cdist(q3, p3, compute_mode=direct).topk(k, largest=False).values.square().reshape(-1, k)
        )
        candidates["scikit-learn KDTree"] = lambda: np.concatenate(
            [KDTree(p).query(q, k)[0] ** 2 for q, p in zip(queries, clouds)]
        )
    if pairs <= SORTED:
        candidates["reference"] = lambda: knn(query, points, k, asked, offsets, backend="reference")[0]

    def errors() -> dict[str, float]:
        """How far each candidate's result is from pointlift's, or pointlift's from the reference's;
        0 is equal.
        """
        own = candidates["pointlift"]().double().numpy()
        scale = float(own.max())
        return {
            c: float(np.abs(np.asarray(run()) - own).max()) / scale
            for c, run in candidates.items()
            if c != "pointlift"
        }

    return f"{k} nearest {name}", candidates, errors


def balls(
    name: str,
    queries: np.ndarray,
    clouds: np.ndarray,
    radius: float,
    k: int,
    threads: int,
    installed: dict[str, Any],
) -> Workload:
    """Ball query, beside its peers; scipy and open3d choose other points of a ball with more than k,
    or all.
    """
    query, asked = batch(queries)
    points, offsets = batch(clouds)
    q3, p3 = torch.from_numpy(queries), torch.from_numpy(clouds)
    first = torch.arange(len(clouds))[:, None, None] * clouds.shape[1]

    def with_torch() -> Tensor:
        inside = torch.cdist(q3, p3, compute_mode="donot_use_mm_for_euclid_dist") < radius
        number = (
            torch.where(inside, torch.arange(clouds.shape[1]), clouds.shape[1])
            .topk(k, largest=False)
            .values.sort(-1)
            .values
        )
        return (torch.where(number < clouds.shape[1], number, number[..., :1]) + first).reshape(-1, k)

    def with_scipy() -> list[Any]:
        # finds every point of a ball; cutting to the first k is left out in its favour
        return [
            cKDTree(p).query_ball_point(q, radius, workers=threads, return_sorted=True)
            for q, p in zip(queries, clouds)
        ]

    candidates: dict[str, Run] = {
        "pointlift": lambda: ball_query(query, points, radius, k, asked, offsets),
        "scipy query_ball_point": with_scipy,
    }
    pairs = len(clouds) * clouds.shape[1] * queries.shape[1]
    if pairs <= AFFORDABLE:
        candidates["torch cdist + topk"] = with_torch
    if pairs <= SORTED:
        candidates["reference"] = lambda: ball_query(
            query, points, radius, k, asked, offsets, backend="reference"
        )
    if "open3d" in installed:
        core = installed["open3d"].core

        def counted(q: np.ndarray, p: np.ndarray) -> np.ndarray:
            search = core.nns.NearestNeighborSearch(core.Tensor(p))
            search.hybrid_index(radius)
            found: np.ndarray = search.hybrid_search(core.Tensor(np.ascontiguousarray(q)), radius, k)[
                2
            ].numpy()
            return found

        candidates["open3d hybrid"] = lambda: np.concatenate([counted(q, p) for q, p in zip(queries, clouds)])

    def errors() -> dict[str, float]:
        """How far each candidate's result is from pointlift's, or pointlift's from the reference's;
        0 is equal.
        """
        own = candidates["pointlift"]()
        # share of indices that differ: a root rounds, so peers may put a point on the sphere on its other
        # side
        found = {
            c: float((candidates[c]() != own).double().mean())
            for c in ("torch cdist + topk", "reference")
            if c in candidates
        }
        first_ball = set(own[0].tolist())
        found["scipy query_ball_point"] = float(len(first_ball - set(with_scipy()[0][0])))
        if "open3d hybrid" in candidates:
            ordered = own.sort(1).values
            sizes = 1 + (ordered.diff(dim=1) > 0).sum(1).numpy()
            # of the numbers of points found
            found["open3d hybrid"] = float((sizes != candidates["open3d hybrid"]()).mean())
        return found

    return f"balls of radius {radius:g}, {k} {name}", candidates, errors


def interpolation(
    name: str, coarse: np.ndarray, fine: np.ndarray, channels: int, installed: dict[str, Any]
) -> list[Workload]:
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
    }
    if len(coarse) * coarse.shape[1] * fine.shape[1] <= SORTED:
        forward["reference"] = lambda f: three_nn_interpolate(
            f, points, query, offsets, asked, backend="reference"
        )

    def with_tree(search: Callable[[], tuple[Any, Any]], values: Tensor) -> Tensor:
        squared, index = search()
        weight = 1 / (torch.from_numpy(squared) + 1e-8)
        weight = (weight / weight.sum(1, keepdim=True)).float()
        return (values[torch.from_numpy(index)] * weight[..., None]).sum(1)

    for peer, search in tree_peers(fine, coarse, 3, installed).items():
        forward[f"{peer} + torch"] = lambda f, search=search: with_tree(search, f)

    def both(call: Callable[[Tensor], Tensor]) -> Tensor:
        leaf = features.detach().requires_grad_()
        call(leaf).backward(grad)
        assert leaf.grad is not None
        return leaf.grad

    def workload(what: str, runs: dict[str, Run]) -> Workload:
        def errors() -> dict[str, float]:
            """How far each candidate's result is from pointlift's, or pointlift's from the reference's;
            0 is equal.
            """
            own = runs["pointlift"]()
            return {
                c: float((run() - own).abs().max() / own.abs().max())
                for c, run in runs.items()
                if c != "pointlift"
            }

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
        "torch index_select": lambda: both(
            lambda f: f.index_select(0, index.reshape(-1)).reshape(*index.shape, channels)
        ),
    }

    def errors() -> dict[str, float]:
        """How far each candidate's result is from pointlift's, or pointlift's from the reference's;
        0 is equal.
        """
        own = candidates["pointlift"]()
        return {
            c: float((run() - own).abs().max() / own.abs().max())
            for c, run in candidates.items()
            if c != "pointlift"
        }

    return f"grouping {name}, {k} neighbours, {channels} channels, forward + backward", candidates, errors


def workloads(tiny: bool, threads: int, installed: dict[str, Any]) -> list[Callable[[], list[Workload]]]:
    """Makers, so that only what is asked for is generated."""
    b, n, m = (2, 256, 64) if tiny else (32, 2048, 512)
    big, huge = (3000, 9000) if tiny else (100_000, 1_000_000)
    clouds = objects(b, n)
    scan = room(6500 if tiny else 200_000)
    rng = np.random.default_rng(0)
    few = clouds[:, :m]
    shape = f"{b} x ({m} of {n})"
    fpsample = installed.get("fpsample")
    return [
        lambda: [sampling(f"{b} x {n // 2}", clouds[:, : n // 2].copy(), m, fpsample)],
        lambda: [sampling(f"{b} x {n}", clouds, m, fpsample)],
        lambda: [sampling(f"{big}", rng.random((1, big, 3), np.float32), big // 10, fpsample)],
        lambda: [sampling(f"{huge}", rng.random((1, huge, 3), np.float32), min(2048, huge // 10), fpsample)],
        lambda: [nearest(shape, few, clouds, 32, threads, installed)],
        lambda: [
            nearest(f"{b} x {n // 2} with itself", *[clouds[:, : n // 2].copy()] * 2, 20, threads, installed)
        ],
        lambda: [nearest(f"{b} x {n} with itself", clouds, clouds, 20, threads, installed)],
        lambda: [nearest(f"room of {len(scan)} with itself", scan[None], scan[None], 16, threads, installed)],
        lambda: [
            nearest(
                "LiDAR sweep with itself",
                *[lidar()[None, : 6500 if tiny else None]] * 2,
                16,
                threads,
                installed,
            )
        ],
        lambda: [balls(shape, few, clouds, 0.2, 16 if tiny else 64, threads, installed)],
        lambda: [
            balls(f"4096 of room of {len(scan)}", scan[None, :4096], scan[None], 0.1, 32, threads, installed)
        ],
        lambda: interpolation(f"{b} x ({n} from {m})", few.copy(), clouds, 8 if tiny else 128, installed),
        lambda: [grouping(shape, few, clouds, 16 if tiny else 32, 8 if tiny else 64)],
    ]


def show(row: dict[str, Any]) -> None:
    """Print a workload: the time of every candidate beside pointlift's, and its error."""
    print(f"\n{row['name']}")
    own, least = (row["seconds"]["pointlift"][which] for which in ("median", "min"))
    for name, s in row["seconds"].items():
        error = row["errors"].get(name)
        note = "" if error is None else f"   difference {error:.1e}"
        line = (
            f"{1e3 * s['median']:10.2f} ms  ({1e3 * s['q1']:.2f} ... {1e3 * s['q3']:.2f}, least "
            f"{1e3 * s['min']:.2f}, n={s['runs']})"
        )
        print(f"   {name:<30}{line}  {s['median'] / own:6.2f} x, least {s['min'] / least:6.2f} x{note}")


def main() -> None:
    """Run the workloads, print and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="run the workloads whose name holds this text")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to try the script")
    parser.add_argument(
        "--note", default="", help="what else a reader must know, such as other work on the machine"
    )
    parser.add_argument("--out", type=Path, default=Path("results/bench/point_operations.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    installed, versions = peers(args.threads)
    content: dict[str, Any] = {
        "environment": environment(),
        "peers": versions,
        "note": args.note,
        "tiny": args.tiny,
        "workloads": [],
    }
    for make in workloads(args.tiny, args.threads, installed):
        for name, candidates, errors in make():
            if args.only not in name:
                continue
            found = errors()
            if not all(math.isfinite(e) for e in found.values()):
                raise SystemExit(f"{name}: a candidate's result is not finite: {found}")
            wrong = [c for c, e in found.items() if e > (COVERING if c == "fpsample bucket" else TOLERANCE)]
            seconds = interleave(
                {c: run for c, run in candidates.items() if c not in wrong}, args.rounds, warmup=0, budget=2.0
            )  # checked: warm
            row = {"name": name, "errors": found, "left out as wrong": wrong, "seconds": seconds}
            content["workloads"].append(row)
            show(row)
            content["environment"] = environment_after(content["environment"])
            write_json(args.out, content)
    print(f"\nwritten: {args.out}")


if __name__ == "__main__":
    main()
