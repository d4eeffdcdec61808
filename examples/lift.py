"""Any image network as a network of clouds: what became of its tensors, what it sees, what would learn.

    python examples/lift.py resnet18 --pretrained    # or any of pl.list_models(), my_net.py:build

Prints the report of the inflation, the maps between its layers, and what every regime trains; report.txt in
--out names every tensor.
"""

import argparse
from pathlib import Path

import torch

import pointlift as pl


def main() -> None:
    """What the words of the command line ask for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", nargs="?", default="fractal_resnet")
    parser.add_argument(
        "--pretrained", action="store_true", help="with the image weights of that name (timm downloads them)"
    )
    parser.add_argument(
        "--rule",
        default="repeat",
        help="how a 2D kernel becomes a 3D one: repeat, mean, center, T1, T2, T3, released-z-axis, learned",
    )
    parser.add_argument("--out", default="runs/examples/lift", help="folder of report.txt")
    args = parser.parse_args()
    net = pl.create_model(
        args.model,
        args.pretrained or args.model == "fractal_resnet",
        num_classes=10,
        rule=args.rule,
        voxel_size=0.1,
    )
    print(f"{args.model}, {sum(p.numel() for p in net.parameters()):,} parameters in 3D\n{net.report}\n")
    Path(args.out).mkdir(parents=True, exist_ok=True)
    (Path(args.out) / "report.txt").write_text(net.report.render(every=True))

    chair = pl.open_dataset("procedural:shapes?classes=chair&test=1", "test")[0]
    xyz = torch.from_numpy(chair.xyz)
    cloud = pl.PointBatch(
        xyz, xyz, torch.tensor([0, len(xyz)])
    )  # coordinates, features, where clouds begin and end
    with torch.no_grad():
        features, maps = net.eval().forward_intermediates(cloud)
        logits = net.forward_head(features)
    for info, seen in zip(net.feature_info, maps):
        print(f"{info['module']}: {seen.features.shape[0]} voxels of {info['num_chs']} channels")
    print(f"the chair: {tuple(features.shape)} features, {tuple(logits.shape)} logits\n")

    for regime in ("io", "io+bn", "all"):
        print(pl.set_finetune(net, regime))


if __name__ == "__main__":
    main()
