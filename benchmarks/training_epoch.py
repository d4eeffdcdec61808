"""One epoch of an inflated ResNet-18 (64-512 channels) on 512 clouds of 1,024 points at voxel 0.05,
batch 32: where the time goes.

    python benchmarks/training_epoch.py [--threads 2] [--clouds 512] [--model resnet18]
        [--out results/bench/training_epoch.json]

Trains everything (regime all, the largest backward pass) on the embedded shapes, after one warm-up batch that
compiles the kernels. Reports clouds per second, peak memory of the process, and the share of time in matrix
products (sparse convolutions and linear layers, forward and backward) by torch's profiler, measured on extra
batches because profiling itself costs time.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

import pointlift as pl
from pointlift.data.procedural.shapes import CLASSES, make_shapes
from timing import environment, interleave, sgemm_rate, write_json

GEMM = ("_SparseConv", "_SparseConvBackward", "aten::mm", "aten::addmm", "aten::bmm")


def peak_memory() -> float:
    """GiB; Linux counts in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def measure(model: str, clouds: int, points: int, voxel: float, batch: int) -> dict[str, Any]:
    """Train one epoch and say how it went."""
    shapes = make_shapes(-(-clouds // len(CLASSES)), points, seed=0, split="train")
    order = torch.randperm(len(shapes), generator=torch.Generator().manual_seed(0))[:clouds].tolist()
    xyz = [torch.from_numpy(shapes[i].xyz) for i in order]
    labels = torch.tensor([shapes[i].label for i in order])
    before = peak_memory()
    net = pl.create_model(model, num_classes=len(CLASSES))
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    voxels = 0

    def step(start: int) -> None:
        nonlocal voxels
        x = pl.voxelize(pl.PointBatch.from_list(xyz[start : start + batch]), voxel, origin="cloud")
        voxels += len(x)
        loss = F.cross_entropy(net(x), labels[start : start + batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    step(0)
    voxels = 0
    times = []
    for start in range(0, clouds - batch + 1, batch):
        t0 = time.perf_counter()
        step(start)
        times.append(time.perf_counter() - t0)
    seen, total = voxels, sum(times)
    with profile(activities=[ProfilerActivity.CPU]) as record:
        for start in range(0, min(clouds, 4 * batch), batch):
            step(start)
    events = record.key_averages()
    everything = sum(e.self_cpu_time_total for e in events)
    products = sum(e.self_cpu_time_total for e in events if e.key in GEMM)
    largest = sorted(events, key=lambda e: -e.self_cpu_time_total)[:8]
    return {
        "model": model, "clouds": len(times) * batch, "points": points, "voxel": voxel, "batch": batch,
        "voxels_per_cloud": seen / (len(times) * batch), "seconds": total,
        "clouds_per_second": len(times) * batch / total,
        "median_step_seconds": sorted(times)[len(times) // 2], "peak_memory_gib": peak_memory(),
        "memory_before_the_network_gib": before, "gemm_share": products / everything,
        "largest": {e.key: e.self_cpu_time_total / everything for e in largest},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clouds", type=int, default=512)
    parser.add_argument("--points", type=int, default=1024)
    parser.add_argument("--voxel", type=float, default=0.05)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent.parent / "results" / "bench" / "training_epoch.json"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    sgemm = 2 * 2048**3 / interleave({"sgemm": sgemm_rate()})["sgemm"]["median"]
    row = measure(args.model, args.clouds, args.points, args.voxel, args.batch)
    print(f"{row['model']}, {row['clouds']} clouds, {row['voxels_per_cloud']:.0f} voxels each")
    print(f"{row['seconds']:.1f} s, {row['clouds_per_second']:.1f} clouds/s; sgemm {sgemm / 1e9:.0f} GFLOP/s")
    print(
        f"peak memory {row['peak_memory_gib']:.2f} GiB, "
        f"of which {row['memory_before_the_network_gib']:.2f} GiB before the network"
    )
    print(f"matrix products take {100 * row['gemm_share']:.0f} % of the time:")
    for name, share in row["largest"].items():
        print(f"  {100 * share:5.1f} %  {name}")
    write_json(
        args.out, {"environment": environment(), "threads": args.threads, "sgemm_gflops": sgemm / 1e9, **row}
    )


if __name__ == "__main__":
    main()
