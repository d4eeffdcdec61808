"""Pictures of meshes and clouds on the CPU: pointlift beside Open3D's and embree's ray casting and torch.

    python benchmarks/raster.py [--threads 2] [--rounds 9] [--only TEXT] [--tiny]
        [--out results/bench/raster.json]

20 views of 224 x 224 pixels of a closed mesh, from a new mesh to depth, face and normal of every pixel: ray
casters build their search tree inside the measured time, as every new mesh needs one, and get their rays
ready-made. embree through trimesh gives faces only. Candidates take turns; the share of pixels whose face
differs from pointlift's stands beside each time. A peer that is not installed is left out and listed as such.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pointlift.ops.raster import Cameras, rasterize, shade, splat_points
from pointlift.views import rig
from timing import environment, environment_after, interleave, optional, write_json
from workloads import objects

Run = Callable[[], Any]
Workload = tuple[str, dict[str, Run], Callable[[], dict[str, float]]]


def bumpy_sphere(faces: int) -> tuple[Tensor, Tensor]:
    """A closed surface of about `faces` triangles in the unit sphere."""
    rings = round((faces / 4) ** 0.5)
    around = 2 * rings
    u, v = np.meshgrid(np.arange(around) * (2 * np.pi / around), np.linspace(1e-3, np.pi - 1e-3, rings + 1))
    radius = 1 + 0.25 * np.sin(3 * u) * np.sin(4 * v) + 0.1 * np.cos(7 * v + 2 * u)
    points = (
        radius[..., None] * np.stack([np.sin(v) * np.cos(u), np.cos(v), np.sin(v) * np.sin(u)], -1)
    ).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(rings), np.arange(around), indexing="ij")
    a, b = (i * around + j).ravel(), (i * around + (j + 1) % around).ravel()
    corners = np.concatenate([np.stack([a, b, a + around], 1), np.stack([b, b + around, a + around], 1)])
    scaled = points / np.linalg.norm(points, axis=1).max()
    return torch.from_numpy(scaled.astype(np.float32)), torch.from_numpy(corners.astype(np.int64))


def rays(cameras: Cameras, size: int) -> np.ndarray:
    """(V, size, size, 6) float32: origin and direction of every pixel of perspective cameras;
    directions have depth 1.
    """
    at = (2 * np.arange(size) + 1) / size - 1
    out = []
    for down, right, forward in cameras.rotations.numpy():
        way = at[:, None, None] / cameras.focal * down + at[None, :, None] / cameras.focal * right + forward
        out.append(np.concatenate([np.broadcast_to(-cameras.distance * forward, way.shape), way], -1))
    return np.stack(out).astype(np.float32)


def meshes(faces: int, views: int, size: int, threads: int, peers: dict[str, Any]) -> Workload:
    """Depth, face and normal of every pixel."""
    vertices, corners = bumpy_sphere(faces)
    cameras = rig("rotationnet-20").cameras
    cameras = cameras._replace(rotations=cameras.rotations[:views])
    ready = rays(cameras, size)
    v, f = vertices.numpy(), corners.numpy()
    candidates: dict[str, Run] = {
        "pointlift": lambda: rasterize(vertices, corners, cameras, size, normal=True),
        "pointlift, shaded colour": lambda: shade(vertices, corners, cameras, size),
    }
    if faces * views * size * size < 10**9:
        candidates["reference"] = lambda: rasterize(
            vertices, corners, cameras, size, normal=True, backend="reference"
        )
    open3d, trimesh = peers["open3d"], peers["trimesh"] if peers["embreex"] is not None else None

    def with_open3d() -> Any:
        scene = open3d.t.geometry.RaycastingScene(nthreads=threads)
        scene.add_triangles(open3d.core.Tensor(v), open3d.core.Tensor(f.astype(np.uint32)))
        return scene.cast_rays(open3d.core.Tensor(ready), nthreads=threads)

    def with_embree() -> Any:
        engine = trimesh.ray.ray_pyembree.RayMeshIntersector(trimesh.Trimesh(v, f, process=False))
        flat = ready.reshape(-1, 6)
        return engine.intersects_first(flat[:, :3], flat[:, 3:]).reshape(ready.shape[:3])

    if open3d is not None:
        candidates["open3d rays"] = with_open3d
    if trimesh is not None:
        candidates["trimesh + embree rays (faces only)"] = with_embree

    def errors() -> dict[str, float]:
        """Share of pixels whose face differs from pointlift's."""
        own = rasterize(vertices, corners, cameras, size, normal=True)
        face, found = own.face.numpy(), {}
        if "reference" in candidates:
            found["reference"] = float((candidates["reference"]().face.numpy() != face).mean())
        if open3d is not None:
            theirs = with_open3d()["primitive_ids"].numpy().astype(np.int64)
            found["open3d rays"] = float((np.where(theirs == 2**32 - 1, -1, theirs) != face).mean())
        if trimesh is not None:
            found["trimesh + embree rays (faces only)"] = float((with_embree() != face).mean())
        return found

    return f"{views} views {size} x {size} of {len(corners)} faces", candidates, errors


def points(clouds: int, size: int) -> Workload:
    """Depth images of clouds with a z-buffer, 3 x 3 pixels per point."""
    batch = objects(clouds, 2048)
    xyz = torch.from_numpy(np.ascontiguousarray(batch).reshape(-1, 3))
    offsets = torch.arange(clouds + 1) * 2048
    cameras = rig("simpleview-6").cameras
    turns = cameras.rotations.float()
    cloud = torch.arange(clouds).repeat_interleave(2048)

    def with_torch() -> Tensor:
        """Depths of all splats, the nearest of each pixel, by scatter_reduce."""
        images = torch.full((clouds, len(turns), (size + 2) ** 2), torch.inf)  # a frame of a pixel around
        for k, turn in enumerate(turns):
            down, right, depth = (xyz @ turn.T + torch.tensor([0.0, 0.0, cameras.distance])).unbind(1)
            row, column = (((c / depth + 1) * (size / 2)).floor().long() for c in (down, right))
            for i in (0, 1, 2):
                for j in (0, 1, 2):
                    seen = (row + i >= 0) & (row + i < size + 2) & (column + j >= 0) & (column + j < size + 2)
                    place = (
                        (cloud[seen] * len(turns) + k) * (size + 2) ** 2
                        + (row[seen] + i) * (size + 2)
                        + column[seen]
                        + j
                    )
                    images.view(-1).scatter_reduce_(0, place, depth[seen], "amin")
        inner = images.reshape(clouds, len(turns), size + 2, size + 2)[:, :, 1:-1, 1:-1]
        return torch.where(inner.isfinite(), inner, 0.0)

    candidates: dict[str, Run] = {
        "pointlift": lambda: splat_points(xyz, offsets, cameras, size, splat=3),
        "torch scatter_reduce": with_torch,
        "reference": lambda: splat_points(xyz, offsets, cameras, size, splat=3, backend="reference"),
    }

    def errors() -> dict[str, float]:
        own = candidates["pointlift"]()[:, :, 0]
        found = {name: candidates[name]() for name in ("torch scatter_reduce", "reference")}
        found["reference"] = found["reference"][:, :, 0]
        return {name: float(((theirs - own).abs() > 1e-4).double().mean()) for name, theirs in found.items()}

    return f"{clouds} clouds x 6 views {size} x {size}, 3 x 3 splat", candidates, errors


def show(row: dict[str, Any]) -> None:
    """Print a workload: the time of every candidate, and how many of pointlift's it is."""
    print(f"\n{row['name']}")
    own = row["seconds"]["pointlift"]["median"]
    for name, s in row["seconds"].items():
        error = row["errors"].get(name)
        note = "" if error is None else f"   pixels that differ {error:.1e}"
        line = f"{1e3 * s['median']:10.2f} ms  ({1e3 * s['q1']:.2f} ... {1e3 * s['q3']:.2f}, n={s['runs']})"
        print(f"   {name:<36}{line}  {s['median'] / own:6.2f} x{note}")


def main() -> None:
    """Run the workloads, print and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="run the workloads whose name holds this text")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to try the script")
    parser.add_argument("--out", type=Path, default=Path("results/bench/raster.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found = {name: optional(name) for name in ("open3d", "embreex", "trimesh")}
    peers = {name: module for name, (module, _) in found.items()}
    content: dict[str, Any] = {
        "environment": environment(), "peers": {name: version for name, (_, version) in found.items()},
        "tiny": args.tiny, "workloads": [],
    }  # fmt: skip
    views, size = (2, 48) if args.tiny else (20, 224)
    workloads = [
        meshes(faces, views, size, args.threads, peers)
        for faces in ((500,) if args.tiny else (5000, 200_000))
    ]
    workloads.append(points(2, 32) if args.tiny else points(32, 128))
    for name, candidates, errors in workloads:
        if args.only in name:
            content["workloads"].append(
                {"name": name, "errors": errors(), "seconds": interleave(candidates, args.rounds)}
            )
            show(content["workloads"][-1])
    content["environment"] = environment_after(content["environment"])
    write_json(args.out, content)
    print(f"\nwritten: {args.out}")


if __name__ == "__main__":
    main()
