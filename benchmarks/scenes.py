"""Scenes from a file to labels: seconds of every stage and memory, from 50,000 to 5,000,000 points.

    python benchmarks/scenes.py [--threads 1] [--largest 5000000] [--out results/bench/scenes.json]

A made site of flat ground, walls and boxes whose density stays as it grows, in .las; an inflated
fractal_resnet as U-Net, 10 cm voxels. Stages: read (file to points), prepare (frame and features), voxelize,
network (kernel maps and convolutions together, and the maps alone), back (labels to points), write (.las).
Memory is the largest resident set of a process of its own, less that of one that only imports.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from timing import environment, environment_after, write_json

SIZES = (50_000, 200_000, 1_000_000, 5_000_000)


def site(points: int, seed: int = 0) -> np.ndarray:
    """(N, 3) of ground with noise, walls and boxes, 120 points per square metre."""
    rng = np.random.default_rng(seed)
    side = np.sqrt(points / 120)
    ground = np.concatenate(
        [rng.uniform(0, side, (points // 2, 2)), rng.normal(0, 0.02, (points // 2, 1))], 1
    )
    walls = rng.uniform(0, side, (points - points // 2, 3))
    walls[:, 0] = np.round(walls[:, 0] / 8) * 8 + rng.normal(0, 0.02, len(walls))
    walls[:, 2] = rng.uniform(0, 4, len(walls))
    return np.concatenate([ground, walls])


def write_site(path: Path, points: int) -> None:
    """The site as .las, grey."""
    from pointlift.tasks.files import write_cloud

    xyz = site(points).astype(np.float32)
    write_cloud(path, xyz, np.full((points, 3), 0.5, np.float32), {})


@contextmanager
def stage(seconds: dict[str, float], name: str) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - begin


def measure(path: str, threads: int) -> dict[str, Any]:
    """In a process of its own: seconds of the stages on one file, and the largest resident set in MB."""
    import torch

    import pointlift as pl
    from pointlift.core.sparse_tensor import PointBatch
    from pointlift.data.files.scans import read_scan
    from pointlift.nn import SparseConv3d
    from pointlift.ops._numba.threading import set_threads
    from pointlift.ops.voxelize import voxelize
    from pointlift.tasks.files import write_cloud

    torch.set_num_threads(threads)
    set_threads(threads)
    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    net = pl.create_model(
        "fractal_resnet", network="unet", num_classes=13, in_channels=4, voxel_size=0.1
    ).eval()
    small = PointBatch.from_list([torch.rand(2000, 3)], [torch.rand(2000, 4)])
    with torch.no_grad():
        net(small)  # kernels are compiled, or loaded
    spent: dict[str, float] = {"convolutions": 0.0}
    for module in net.modules():
        if isinstance(module, SparseConv3d):
            module.register_forward_pre_hook(lambda *_: spent.update(since=time.perf_counter()))
            module.register_forward_hook(
                lambda *_: spent.update(
                    convolutions=spent["convolutions"] + time.perf_counter() - spent["since"]
                )
            )
    seconds: dict[str, float] = {}
    with torch.no_grad():
        with stage(seconds, "read"):
            scan = read_scan(path)
        with stage(seconds, "prepare"):
            xyz = torch.from_numpy(scan.xyz - np.median(scan.xyz, axis=0))
            colors = torch.from_numpy(np.asarray(scan.colors))
            cloud = PointBatch.from_list([xyz], [torch.cat([xyz[:, 2:], colors - 0.5], 1)])
        with stage(seconds, "voxelize"):
            voxels = voxelize(cloud, 0.1, origin="cloud")
        with stage(seconds, "network"):
            logits = net(voxels)
        seconds["of it convolutions with their maps"] = spent["convolutions"]
        with stage(seconds, "back"):
            labels = logits.argmax(1)[voxels.maps.point_rows].numpy()
        with tempfile.TemporaryDirectory() as folder, stage(seconds, "write"):
            write_cloud(
                Path(folder) / "out.las", scan.xyz, np.zeros((len(scan), 3), np.float32), {"label": labels}
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    whole = sum(v for k, v in seconds.items() if not k.startswith("of it"))
    return {
        "points": len(scan), "voxels": len(voxels.features), "seconds": seconds, "whole": whole,
        "scans_per_second": 1 / whole, "megabytes": peak - idle,
        "bytes_per_point": 2**20 * (peak - idle) / len(scan),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--largest", type=int, default=SIZES[-1])
    parser.add_argument("--out", type=Path, default=Path("results/bench/scenes.json"))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure is not None:
        print(json.dumps(measure(args.measure, args.threads)))
        return
    before, rows = environment(), []
    with tempfile.TemporaryDirectory() as folder:
        for points in (size for size in SIZES if size <= args.largest):
            path = Path(folder) / f"{points}.las"
            write_site(path, points)
            words = [sys.executable, __file__, "--measure", str(path), "--threads", str(args.threads)]
            said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
            rows.append(json.loads(said.splitlines()[-1]))
            row = rows[-1]
            shares = ", ".join(f"{name} {value:.2f}" for name, value in row["seconds"].items())
            print(f"{row['points']:>9,} points, {row['voxels']:>9,} voxels: {row['whole']:.2f} s ({shares}), "
                  f"{row['megabytes']:.0f} MB", flush=True)  # fmt: skip
    write_json(args.out, {"environment": environment_after(before), "rows": rows, "threads": args.threads})


if __name__ == "__main__":
    main()
