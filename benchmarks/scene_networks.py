"""Whole networks of scenes on one thread: Res16UNet34C here and in spconv, and the time outside convolutions.

    python benchmarks/scene_networks.py [--spconv FOLDER] [--rounds 5]
        [--out results/bench/scene_networks.json]

The room of `workloads.py` at 5 cm. spconv runs with one thread, with which alone its CPU wheel is right; its
network is made from ours, weight by weight, and its output compared before anything is timed. Forward in
evaluation mode, forward and backward of a mean in training mode; kernel maps are made anew in every run, in
both. Beside them the matrix products alone that a forward pass must do, by torch: the limit of any
convolution that uses these. Then an inflated ResNet-18 as U-Net: processor time of the sparse convolutions,
and of all the rest.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import pointlift as pl
from pointlift.core.sparse_tensor import SparseTensor
from pointlift.models.voxels.res16unet import DOWN, UP, Res16UNet
from pointlift.nn import SparseConv3d
from pointlift.ops._numba.threading import set_threads
from pointlift.ops.sparse_conv import cpu
from sparse_conv import load_spconv
from timing import environment, environment_after, interleave, write_json
from workloads import sparse_workloads

TOLERANCE = 1e-3  # of the largest output


class PeerNetwork(nn.Module):
    """The layers of a Res16UNet as spconv's, with the same weights."""

    def __init__(self, spconv: Any, net: Res16UNet) -> None:
        super().__init__()
        self.spconv, self.net, self.convs = spconv, net, nn.ModuleDict()
        keys = {"conv0p1s1": "at0"} | {name: f"down{i}" for i, name in enumerate(DOWN)}
        keys |= {name: f"down{3 - i}" for i, name in enumerate(UP)}
        keys |= {f"block{i}": f"at{level}" for i, level in enumerate((1, 2, 3, 4, 3, 2, 1, 0), 1)}
        for name, module in net.named_modules():
            if isinstance(module, SparseConv3d):
                self.convs[name.replace(".", "/")] = self._conv(module, keys[name.split(".")[0]])

    def _conv(self, ours: SparseConv3d, key: str) -> nn.Module:
        k, size, sp = ours.kernel_size, (ours.in_channels, ours.out_channels), self.spconv
        if k == 1:  # a matrix product, in both
            linear = nn.Linear(*size, bias=False)
            linear.weight = nn.Parameter(ours.weight.detach()[0].t().contiguous())
            return linear
        native = sp.ConvAlgo.Native
        if ours.transposed:
            conv = sp.SparseInverseConv3d(*size, k, indice_key=key, bias=False, algo=native)
        elif ours.stride > 1:
            conv = sp.SparseConv3d(*size, k, ours.stride, bias=False, indice_key=key, algo=native)
        else:
            conv = sp.SubMConv3d(*size, k, bias=False, indice_key=key, algo=native)
        with torch.no_grad():
            # (K, C_in, C_out) -> (C_out, k, k, k, C_in)
            conv.weight.copy_(ours.weight.reshape(k, k, k, *size).permute(4, 0, 1, 2, 3))
        made: nn.Module = conv
        return made

    def forward(self, features: Tensor, coords: Tensor) -> Tensor:
        shape = (coords[:, 1:].amax(0) + 1).tolist()
        x = self.spconv.SparseConvTensor(features, coords, [16 * (-(-s // 16)) for s in shape], 1)
        module: Any = self.net.get_submodule
        x, skips = self._unit("conv0p1s1", module("bn0"), x), []
        for level, down in enumerate(DOWN, 1):
            skips.append(x)
            x = self._block(f"block{level}", self._unit(down, module(f"bn{level}"), x))
        for level, up in enumerate(UP, 4):
            x = self._unit(up, module(f"bntr{level}"), x)
            joined = torch.cat([x.features, skips.pop().features], 1)
            x = self._block(f"block{level + 1}", x.replace_feature(joined))
        out: Tensor = self.net.head(x.features)
        return out

    def _unit(self, name: str, norm: nn.Module, x: Any, relu: bool = True) -> Any:
        conv = self.convs[name.replace(".", "/")]
        out = x.replace_feature(conv(x.features)) if isinstance(conv, nn.Linear) else conv(x)
        features = nn.functional.batch_norm(
            out.features, norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.training,
            norm.momentum, norm.eps,
        )  # type: ignore[arg-type]  # fmt: skip
        return out.replace_feature(features.relu() if relu else features)

    def _block(self, name: str, x: Any) -> Any:
        blocks: Any = self.net.get_submodule(name)
        for i, block in enumerate(blocks):
            place = f"{name}.{i}"
            short = x
            if block.downsample is not None:
                short = self._unit(f"{place}.downsample.0", block.downsample[1], x, relu=False)
            inner = self._unit(f"{place}.conv1", block.norm1, x)
            out = self._unit(f"{place}.conv2", block.norm2, inner, relu=False)
            x = out.replace_feature((out.features + short.features).relu())
        return x


def training(net: nn.Module, run: Callable[[], Tensor]) -> Callable[[], None]:
    """A step's forward and backward, in training mode."""

    def step() -> None:
        net.train()
        net.zero_grad()
        run().mean().backward()

    return step


def against_spconv(spconv: Any, rounds: int) -> dict[str, Any]:
    """Seconds of both networks, and their largest difference."""
    coords = torch.from_numpy(sparse_workloads()["room @0.05"])
    features = torch.randn(len(coords), 3, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    net = Res16UNet(3, 13).eval()

    def ours() -> Tensor:
        out: Tensor = net(SparseTensor(features, coords))
        return out

    def forward(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def call() -> Tensor:
            net.eval()
            with torch.no_grad():
                return run()

        return call

    found: dict[str, Any] = {"voxels": len(coords), "parameters": sum(p.numel() for p in net.parameters())}
    candidates: dict[str, Callable[[], Any]] = {"pointlift": forward(ours)}
    steps: dict[str, Callable[[], Any]] = {"pointlift": training(net, ours)}
    if spconv is not None:
        peer = PeerNetwork(spconv, net)
        theirs = forward(lambda: peer(features, coords.int()))()
        mine = forward(ours)()
        difference = float((theirs - mine).abs().max() / mine.abs().max())
        found["largest_relative_difference"] = difference
        if difference > TOLERANCE:
            raise SystemExit(f"spconv's network differs by {difference:.2g}: nothing is timed")
        candidates["spconv"] = forward(lambda: peer(features, coords.int()))
        steps["spconv"] = training(peer, lambda: peer(features, coords.int()))
    products = matrix_products(net, features, coords)
    candidates["products"] = products
    found["forward_gflop"] = products.gflop  # type: ignore[attr-defined]
    found["forward"] = interleave(candidates, rounds, 1)
    found["forward_backward"] = interleave(steps, max(3, rounds - 2), 1)
    for name in ("forward", "forward_backward"):
        if spconv is not None:
            ratio = found[name]["spconv"]["median"] / found[name]["pointlift"]["median"]
            found[f"{name}_times_faster"] = ratio
            print(f"Res16UNet34C, {name}: {ratio:.2f} times spconv's speed")
    seconds = {name: found["forward"][name]["median"] for name in ("pointlift", "products")}
    print(
        f"{found['forward_gflop']:.0f} GFLOP: {seconds['pointlift']:.2f} s forward, "
        f"{seconds['products']:.2f} s as torch's matrix products alone"
    )
    return found


def matrix_products(net: nn.Module, features: Tensor, coords: Tensor) -> Callable[[], None]:
    """What a forward pass multiplies, as torch's own matrix products of rows that lie side by side: nothing
    gathered, added up or written elsewhere. No convolution that uses them is faster.
    """
    seen: list[tuple[list[int], Tensor]] = []
    original = cpu.forward

    def noting(x: Tensor, weight: Tensor, table: Tensor, groups: int) -> Tensor:
        seen.append(((table >= 0).sum(1).tolist(), weight.detach()))
        return original(x, weight, table, groups)

    cpu.forward = noting
    try:
        with torch.no_grad():
            net.eval()(SparseTensor(features, coords))
    finally:
        cpu.forward = original
    rows = [torch.randn(max(counts), weight.shape[1]) for counts, weight in seen]
    out = [torch.empty(max(counts), weight.shape[2]) for counts, weight in seen]

    def multiply() -> None:
        for (counts, weight), a, y in zip(seen, rows, out):
            for k, count in enumerate(counts):
                torch.mm(a[:count], weight[k], out=y[:count])

    multiply.gflop = sum(  # type: ignore[attr-defined]
        2e-9 * sum(counts) * weight.shape[1] * weight.shape[2] for counts, weight in seen
    )
    return multiply


def outside_convolutions() -> dict[str, Any]:
    """Processor seconds of an inflated ResNet-18 U-Net, and of its sparse convolutions."""
    net = pl.create_model("resnet18", network="unet", num_classes=19, in_channels=4).eval()
    coords = torch.from_numpy(sparse_workloads()["lidar @0.05"])
    features = torch.randn(len(coords), 4, generator=torch.Generator().manual_seed(0))
    spent = {"convolution": 0.0}

    def before(module: nn.Module, args: Any) -> None:
        spent["since"] = time.process_time()

    def after(module: nn.Module, args: Any, out: Any) -> None:
        spent["convolution"] += time.process_time() - spent["since"]

    for module in net.modules():
        if isinstance(module, SparseConv3d):
            module.register_forward_pre_hook(before)
            module.register_forward_hook(after)
    with torch.no_grad():
        net(SparseTensor(features, coords))
        runs = []
        for _ in range(3):
            spent["convolution"], begin = 0.0, time.process_time()
            net(SparseTensor(features, coords))
            runs.append((time.process_time() - begin, spent["convolution"]))
    whole, convolution = sorted(runs)[1]
    share = 1 - convolution / whole
    print(f"ResNet-18 U-Net, {len(coords)} voxels: {whole:.1f} s, {100 * share:.1f} % outside convolutions")
    return {"voxels": len(coords), "seconds": whole, "convolutions": convolution, "share_outside": share}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--spconv")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("results/bench/scene_networks.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    set_threads(1)
    before = environment()
    spconv, version = load_spconv(args.spconv)
    content = {
        "environment": before,
        "spconv": version,
        "res16unet34c_room": against_spconv(spconv, args.rounds),
        "unet_lidar": outside_convolutions(),
    }
    content["environment"] = environment_after(before)
    write_json(args.out, content)


if __name__ == "__main__":
    main()
