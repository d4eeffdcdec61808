"""Seconds to read text meshes and clouds, beside trimesh: `python benchmarks/read_files.py`.

Medians of interleaved rounds on files of about 100,000 points or faces; only the first two columns of a row
are the same work (trimesh also welds, which `process=False` turns off).
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from pointlift.data.files import read_content

ROUNDS = 9


def files(folder: Path) -> dict[str, Path]:
    """One mesh of 81,920 faces and one cloud of 100,000 points in text formats."""
    ball = trimesh.creation.icosphere(6)
    rng = np.random.default_rng(0)
    ball.vertices += rng.normal(size=ball.vertices.shape) * 1e-3
    colors = rng.integers(0, 256, (len(ball.vertices), 4)).astype(np.uint8)
    mesh, colored = ball.copy(), ball.copy()
    mesh.visual = trimesh.visual.ColorVisuals()
    colored.visual.vertex_colors = colors
    ball.vertex_normals  # noqa: B018 (computed, so that they are written)
    mesh.export(str(folder / "mesh.ply"), encoding="ascii")
    colored.export(str(folder / "colors.ply"), encoding="ascii")
    trimesh.PointCloud(rng.normal(size=(100_000, 3))).export(str(folder / "cloud.ply"), encoding="ascii")
    mesh.export(str(folder / "mesh.obj"), include_normals=False)
    colored.export(str(folder / "colors.obj"), include_normals=False)
    ball.export(str(folder / "normals.obj"), include_normals=True)
    mesh.export(str(folder / "mesh.off"))
    mesh.export(str(folder / "text.stl"), file_type="stl_ascii")
    mesh.export(str(folder / "binary.stl"))
    corners = "".join("v {} {} {}\n".format(*v) for v in mesh.vertices.tolist())
    lines = ("f " + " ".join(f"{i}/{i}/{i}" for i in face) + "\n" for face in (mesh.faces + 1).tolist())
    (folder / "slashes.obj").write_text(corners + "vt 0 0\n" * len(ball.vertices) + "".join(lines))
    return {path.name: path for path in sorted(folder.iterdir())}


def seconds(read: Callable[[], Any]) -> float:
    """Of one reading."""
    start = time.perf_counter()
    read()
    return time.perf_counter() - start


def main() -> None:
    """Print a table."""
    print(f"{'file':14}{'pointlift':>10}{'trimesh':>10}{'ratio':>7}")
    with tempfile.TemporaryDirectory() as folder:
        for name, path in files(Path(folder)).items():
            ours, theirs = [], []
            for _ in range(ROUNDS):
                ours.append(seconds(lambda path=path: read_content(path)))
                theirs.append(seconds(lambda path=path: trimesh.load(str(path), process=False)))
            mine, other = statistics.median(ours), statistics.median(theirs)
            print(f"{name:14}{mine:10.3f}{other:10.3f}{mine / other:7.2f}", flush=True)


if __name__ == "__main__":
    main()
