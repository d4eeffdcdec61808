"""Draw docs/overview.png: pictures an image network was trained on, one of its kernels lifted to 3D,
clouds coloured by its features.

pointlift demo --out DIR && python tools/draw_overview.py DIR/model.safetensors
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d import Axes3D

import pointlift as pl
from pointlift.data.procedural.fractals.fractal_images import FractalImages
from pointlift.data.procedural.fractals.systems import search_categories
from pointlift.data.procedural.shapes import make_shapes
from pointlift.models.images.fractal_resnet import fractal_resnet
from pointlift.tasks.point_features import feature_colors

CLASSES = ("chair", "aeroplane", "lamp", "mug")


def _fractals(figure: Figure, left: float) -> None:
    images = FractalImages(search_categories(4, seed=3), 1, 72, cache=False)
    for i in range(4):
        axis = figure.add_axes((left + 0.105 * (i % 2), 0.45 - 0.36 * (i // 2), 0.1, 0.34))
        axis.imshow(np.asarray(images[i][0])[0], cmap="gray")
        axis.axis("off")


def _kernels(figure: Figure, left: float) -> None:
    weight = fractal_resnet(pretrained=True).layer1[0].conv1.weight.detach()
    spread = weight.flatten(2).std(2)  # the input and output channel with the most structure
    kernel = weight.flatten(0, 1)[spread.argmax()].numpy()
    limit = float(np.abs(kernel).max())
    flat = figure.add_axes((left, 0.36, 0.07, 0.24))
    flat.imshow(kernel, cmap="RdBu", vmin=-limit, vmax=limit)
    flat.set_xticks([]), flat.set_yticks([])
    flat.set_title("3 x 3", fontsize=9)
    solid: Axes3D = figure.add_axes((left + 0.09, 0.12, 0.2, 0.72), projection="3d")  # type: ignore[assignment]
    volume = np.repeat(kernel[:, :, None], 3, 2)
    shades = (0.5 + 0.5 * volume / limit).clip(0, 1)
    from matplotlib import colormaps

    colors = colormaps["RdBu"](shades)
    solid.voxels(np.ones((3, 3, 3)), facecolors=colors, edgecolor="#444444", linewidth=0.4)
    solid.axis("off")
    solid.set_title("3 x 3 x 3", fontsize=9, y=0.98)


def _clouds(figure: Figure, left: float, checkpoint: str) -> None:
    net = pl.load(checkpoint).eval()
    voxel = float(net.metadata["voxel_size"])  # type: ignore[arg-type,index]
    shapes = make_shapes(1, 1024, 5, "test", classes=CLASSES)
    for i in range(len(shapes)):
        xyz = torch.from_numpy(shapes[i].xyz)
        with torch.no_grad():
            features = net.forward_map(
                pl.voxelize(pl.PointBatch.from_list([xyz]), voxel, origin="cloud")
            ).to_points()  # type: ignore[operator]
        axis: Axes3D = figure.add_axes((left + 0.11 * i, 0.02, 0.13, 0.9), projection="3d")  # type: ignore[assignment]
        x, y, z = shapes[i].xyz.T
        axis.scatter(x, z, y, c=feature_colors(features.numpy()), s=4, depthshade=False)
        axis.set_box_aspect((np.ptp(x), np.ptp(z), np.ptp(y)), zoom=1.15)
        axis.view_init(18, -55)
        axis.axis("off")


def draw(checkpoint: str, path: Path) -> None:
    figure = Figure(figsize=(13, 3.9), facecolor="white")
    _fractals(figure, 0.01)
    _kernels(figure, 0.25)
    _clouds(figure, 0.545, checkpoint)
    for x, text in (
        (0.11, "trained on pictures"),
        (0.39, "filters lifted to 3D"),
        (0.78, "understands point clouds"),
    ):
        figure.text(x, 0.93, text, ha="center", fontsize=13, weight="bold")
    for x in (0.232, 0.535):
        figure.text(x, 0.46, "→", ha="center", va="center", fontsize=26, color="#d9480f")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    draw(sys.argv[1], Path(__file__).parent.parent / "docs" / "overview.png")
