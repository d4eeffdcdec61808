"""Sparse convolution on the CPU: pointlift beside its own torch reference and spconv,
as shares of the machine's sgemm rate.

    python benchmarks/sparse_conv.py [--threads 2] [--rounds 9] [--spconv FOLDER] [--only TEXT]
        [--out results/bench/sparse_conv.json]

Every candidate is checked against the float64 reference before it is timed. Only real pairs count as work: 2
P C_in C_out operations forward, three times that forward + backward; weight packing and autograd are inside
the measured time, the kernel map (made once per cloud) is its own row. spconv is measured where it is
installed (or found in --spconv), with one thread and with all, its errors beside it.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pointlift.core.sparse_tensor import CoordinateMaps, Level, SparseTensor, pack_coords
from pointlift.ops.kernel_map import KernelMap, kernel_map, kernel_offsets
from pointlift.ops.kernel_map import cpu as map_cpu
from pointlift.ops.kernel_map import reference as map_reference
from pointlift.ops.sparse_conv import sparse_conv
from timing import environment, interleave, sgemm_rate, write_json
from workloads import sparse_workloads

CASES = [
    ("objects 32x2048 @0.05", 64),
    ("objects 32x2048 @0.05", 128),
    ("room @0.05", 64),
    ("room @0.05", 128),
    ("room @0.02", 32),
    ("lidar @0.05", 32),
]
TARGETS = {64: (0.65, 0.48), 128: (0.80, 0.62)}  # forward and forward + backward, objects and the 0.05 room
TARGET_MAP = 4.0
Run = Callable[[], Any]


def load_spconv(folder: str | None) -> tuple[Any, str]:
    """spconv.pytorch, or None, and a sentence."""
    if folder:
        sys.path.append(folder)
    try:
        module = importlib.import_module("spconv.pytorch")
    except ImportError as missing:
        return None, f"not installed ({missing})"
    core = importlib.import_module("spconv.pytorch.cppcore")
    ops = importlib.import_module("spconv.pytorch.ops")
    # it asks for a CUDA stream for CPU tensors too, which a CUDA build of torch refuses without a driver
    if not torch.cuda.is_available():
        core.get_current_stream = ops.get_current_stream = lambda: 0
    return module, str(importlib.import_module("spconv").__version__)


class Peer:
    """One submanifold convolution of spconv on given voxels and weights."""

    def __init__(self, spconv: Any, coords: Tensor, features: Tensor, weight: Tensor):
        _, c_in, c_out = weight.shape
        self.layer = spconv.SubMConv3d(
            c_in, c_out, 3, bias=False, indice_key="k", algo=spconv.ConvAlgo.Native
        )
        with torch.no_grad():
            # (K, C_in, C_out) -> (C_out, 3, 3, 3, C_in); its first spatial axis is our x
            self.layer.weight.copy_(weight.reshape(3, 3, 3, c_in, c_out).permute(4, 0, 1, 2, 3))
        self.spconv, self.coords = spconv, coords
        self.shape = (coords[:, 1:].amax(0) + 1).tolist()
        self.batch = int(coords[:, 0].max()) + 1
        self.input = self.tensor(features)
        self.layer(self.input)  # makes the indices, which stay on the tensor
        self.indices = self.input.indice_dict

    def tensor(self, features: Tensor) -> Any:
        return self.spconv.SparseConvTensor(features, self.coords, self.shape, self.batch)

    def forward(self, features: Tensor) -> Tensor:
        x = self.tensor(features)
        x.indice_dict = self.indices
        return self.layer(x).features

    def map(self) -> Any:
        x = self.tensor(self.input.features[:, :1].contiguous())
        return self.spconv.ops.get_indice_pairs(
            x.indices,
            x.batch_size,
            x.spatial_shape,
            self.spconv.ConvAlgo.Native,
            [3] * 3,
            [1] * 3,
            [0] * 3,
            [1] * 3,
            [0] * 3,
            True,
        )


def with_threads(count: int, run: Run) -> Run:
    if count == torch.get_num_threads():
        return run

    def call() -> Any:
        before = torch.get_num_threads()
        torch.set_num_threads(count)
        try:
            return run()
        finally:
            torch.set_num_threads(before)

    return call


def relative_error(value: Tensor, exact: Tensor) -> float:
    return float((value.double() - exact).abs().max() / exact.abs().max())


def forward_backward(
    conv: Callable[[Tensor], Tensor], x: Tensor, weight: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    leaf = x.detach().requires_grad_()
    weight.grad = None
    out = conv(leaf)
    out.backward(grad)
    assert leaf.grad is not None and weight.grad is not None
    return out.detach(), leaf.grad, weight.grad


def bench_map(name: str, coords: Tensor, spconv: Any, rounds: int) -> dict[str, Any]:
    key, step = pack_coords(coords, margin=1)
    shift = kernel_offsets(3) @ step[1:]

    def ours() -> tuple[Tensor, Any]:
        table = map_cpu.lookup(key, key, shift)
        return table, map_cpu.pairs_of(table)

    exact = map_reference.lookup(key, key, shift)
    if not torch.equal(ours()[0], exact):
        raise SystemExit(f"The numba kernel map of {name} is wrong: nothing was timed.")
    runs: dict[str, Run] = {
        "pointlift": lambda: map_cpu.lookup(key, key, shift),
        "pointlift with pair lists": ours,
        "torch searchsorted": lambda: map_reference.lookup(key, key, shift),
    }
    if spconv is not None:
        peer = Peer(spconv, coords, torch.zeros(len(coords), 1), torch.zeros(27, 1, 1))
        runs["spconv"] = peer.map
    times = interleave(runs, rounds)
    speedup = times["torch searchsorted"]["median"] / times["pointlift"]["median"]
    pairs = int((exact >= 0).sum())
    return {
        "workload": name,
        "voxels": len(coords),
        "pairs": pairs,
        "seconds": times,
        "speedup": speedup,
        "target": TARGET_MAP,
    }


def candidates(
    spconv: Any, maps: CoordinateMaps, x: Tensor, weight: Tensor, kmap: KernelMap, threads: int
) -> dict[str, tuple[Callable[[Tensor], Tensor], Tensor, int]]:
    """Name -> convolution of features, the weight whose gradient it fills, and its number of threads."""
    found: dict[str, tuple[Callable[[Tensor], Tensor], Tensor, int]] = {
        "pointlift": (lambda f: sparse_conv(f, weight, kmap, backend="cpu"), weight, threads),
        "reference": (lambda f: sparse_conv(f, weight, kmap, backend="reference"), weight, threads),
    }
    if spconv is not None:
        peer = Peer(spconv, maps.coords(Level(1)), x, weight)
        for count in sorted({1, threads}):
            found[f"spconv, {count} thread{'s' * (count > 1)}"] = (peer.forward, peer.layer.weight, count)
    return found


def bench_conv(
    name: str, coords: Tensor, channels: int, spconv: Any, rounds: int, threads: int
) -> dict[str, Any]:
    g = torch.Generator().manual_seed(0)
    tensor = SparseTensor(torch.randn(len(coords), channels, generator=g), coords)
    kmap, _ = kernel_map(tensor.maps, tensor.level, 3)
    x, grad = tensor.features, torch.randn(len(coords), channels, generator=g)
    weight = (torch.randn(27, channels, channels, generator=g) / (8 * channels) ** 0.5).requires_grad_()
    exact_weight = weight.detach().double().requires_grad_()
    exact = forward_backward(
        lambda f: sparse_conv(f, exact_weight, kmap, backend="reference"),
        x.double(),
        exact_weight,
        grad.double(),
    )
    forward: dict[str, Run] = {"sgemm": sgemm_rate()}
    both: dict[str, Run] = {"sgemm": forward["sgemm"]}
    errors: dict[str, list[float]] = {}
    for who, (conv, its_weight, count) in candidates(spconv, tensor.maps, x, weight, kmap, threads).items():
        forward[who] = with_threads(count, torch.no_grad()(lambda conv=conv: conv(x)))
        both[who] = with_threads(count, lambda conv=conv, w=its_weight: forward_backward(conv, x, w, grad))
        out, gx, gw = both[who]()
        if who.startswith("spconv"):
            gw = gw.permute(1, 2, 3, 4, 0).reshape(weight.shape)
        errors[who] = [relative_error(a, b) for a, b in zip((out, gx, gw), exact)]
    if max(errors["pointlift"]) > 1e-4:
        raise SystemExit(
            f"pointlift is wrong on {name} with {channels} channels (errors {errors['pointlift']}): "
            "nothing was timed."
        )
    times = {"forward": interleave(forward, rounds), "forward+backward": interleave(both, rounds)}
    work = 2.0 * kmap.pairs.start[-1] * channels * channels
    shares = {}
    for kind, factor in (("forward", 1), ("forward+backward", 3)):
        peak = 2.0 * 2048**3 / times[kind]["sgemm"]["median"]
        shares[kind] = {
            who: factor * work / t["median"] / peak for who, t in times[kind].items() if who != "sgemm"
        }
    target = (
        dict(zip(("forward", "forward+backward"), TARGETS.get(channels, (None, None))))
        if channels in TARGETS
        else None
    )
    return {
        "workload": name,
        "channels": channels,
        "voxels": len(coords),
        "pairs": kmap.pairs.start[-1],
        "sgemm_gflops": 2.0 * 2048**3 / times["forward"]["sgemm"]["median"] / 1e9,
        "seconds": times,
        "share_of_sgemm": shares,
        "target": target,
        "relative_error_out_input_weight": errors,
    }


def show_map(row: dict[str, Any]) -> None:
    print(f"\nkernel map 3^3, {row['workload']}: {row['voxels']} voxels, {row['pairs']} pairs")
    for who, t in row["seconds"].items():
        print(f"  {who:28s} {t['median'] * 1e3:9.2f} ms  [{t['q1'] * 1e3:.2f} {t['q3'] * 1e3:.2f}]")
    print(f"  {row['speedup']:.1f} x faster than torch searchsorted (asked for: {row['target']:g})")


def show_conv(row: dict[str, Any]) -> None:
    title = (
        f"{row['channels']} -> {row['channels']} channels, {row['workload']}: {row['voxels']} voxels, "
        f"{row['pairs']} pairs"
    )
    print(f"\n{title}; sgemm {row['sgemm_gflops']:.0f} GFLOP/s")
    for kind, shares in row["share_of_sgemm"].items():
        asked = "" if row["target"] is None else f" (asked for: {row['target'][kind]:.2f})"
        for who, share in shares.items():
            t = row["seconds"][kind][who]
            errors = " ".join(
                f"{e:.0e}"
                for e in row["relative_error_out_input_weight"][who][: 1 if kind == "forward" else 3]
            )
            note = asked if who == "pointlift" else ""
            print(
                f"  {kind:16s} {who:18s} {t['median'] * 1e3:9.2f} ms  [{t['q1'] * 1e3:.2f} "
                f"{t['q3'] * 1e3:.2f}]"
                f"  {share:.2f} of sgemm{note}  error {errors}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--spconv", metavar="FOLDER", help="where spconv is installed, if not in this environment"
    )
    parser.add_argument("--only", default="", help="workloads whose name contains this text")
    parser.add_argument("--out", type=Path, default=Path("results/bench/sparse_conv.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    spconv, version = load_spconv(args.spconv)
    before = environment()
    print(f"{before['processor']}, {args.threads} threads, load {before['load_average']}; spconv: {version}")
    coords = {name: torch.from_numpy(c) for name, c in sparse_workloads().items() if args.only in name}
    content: dict[str, Any] = {"environment": before, "spconv": version, "maps": [], "convolutions": []}
    for name, c in coords.items():
        content["maps"].append(bench_map(name, c, spconv, args.rounds))
        show_map(content["maps"][-1])
    for name, channels in CASES:
        if name in coords:
            content["convolutions"].append(
                bench_conv(name, coords[name], channels, spconv, args.rounds, args.threads)
            )
            show_conv(content["convolutions"][-1])
    content["environment"]["load_average_after"] = environment()["load_average"]
    content["environment"]["threading_layer"] = environment()["threading_layer"]
    write_json(args.out, content)
    print(f"\nwritten: {args.out}")


if __name__ == "__main__":
    main()
