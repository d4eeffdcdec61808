"""Made rooms in the layout of ScanNet v2 (Dai et al. 2017)."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointlift.data.procedural.rooms import KINDS, DepthCamera, Frame, make_frames, make_room
from pointlift.data.procedural.rooms.kinds import NYU40_OF
from pointlift.data.procedural.scenes import SceneMesh, scene_key, stream
from pointlift.data.procedural.writers.sens import write_frames, write_sens
from pointlift.system.atomic import atomic_folder

__all__ = ["TSV_COLUMNS", "ScannetMesh", "scannet_mesh", "write_scannet"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TSV_COLUMNS: tuple[str, ...] = (
    "id", "raw_category", "category", "count", "nyu40id", "eigen13id", "nyuClass", "nyu40class",
    "eigen13class", "ModelNet40", "ModelNet10", "ShapeNetCore55", "synsetoffset", "wnsynsetid",
    "wnsynsetkey", "mpcat40", "mpcat40index",
)  # fmt: skip
"""The columns of scannetv2-labels.combined.tsv."""
SPLITS = ("train", "val", "test")
EYE = (0.5, 0.5, 1.6)  # of the room's size, and metres: from there the mesh is coloured


class ScannetMesh(NamedTuple):
    """The mesh of a scan. vertices: (V, 3) float32 in the scan's own axes; colors: (V, 3) uint8; faces: (F,
    3) int64; kinds: (V,) numbers of KINDS; instances: (V,); segments: (V,) of an over-segmentation;
    alignment: (4, 4) float64 that turns the scan so that its walls run along x and y.
    """

    vertices: npt.NDArray[np.float32]
    colors: npt.NDArray[np.uint8]
    faces: Ints
    kinds: Ints
    instances: Ints
    segments: Ints
    alignment: Floats


def scannet_mesh(room: SceneMesh, alignment: Floats, edge: float = 0.1) -> ScannetMesh:
    """A room as a mesh of small triangles, whose vertices have the colours and each belong to one object.

    Args:
        room: of ``make_room``.
        alignment: ``(4, 4)`` from the scan's axes to the room's.
        edge: no edge is longer, in metres.
    """
    points, normals, faces, of = subdivided(room, edge)
    size = room.vertices.max(0)
    eye = np.array([EYE[0] * size[0], EYE[1] * size[1], EYE[2]])
    _, colors = room.seen(points, of, eye)
    side = np.abs(normals).argmax(1)
    cells = np.column_stack([room.instances[of], np.floor(points / 0.5).astype(np.int64), side])
    segments = np.unique(cells, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    back = np.linalg.inv(alignment)
    vertices = points @ back[:3, :3].T + back[:3, 3]
    return ScannetMesh(
        vertices.astype(np.float32),
        np.rint(np.float64(colors) * 255).astype(np.uint8),
        faces,
        room.kinds[of],
        room.instances[of],
        segments,
        alignment,
    )


def subdivided(room: SceneMesh, edge: float) -> tuple[Floats, Floats, Ints, Ints]:
    """Points (V, 3), their normals, faces (F, 3), and the room's face that each point is of: every face cut
    into n x n alike. Points of one object that coincide and have one direction are one.
    """
    corner = room.vertices[room.faces]
    longest = np.linalg.norm(corner - np.roll(corner, 1, axis=1), axis=2).max(1)
    cuts = np.maximum(np.ceil(longest / edge - 1e-9), 1).astype(np.int64)
    points, faces, of, count = [], [], [], 0
    for n in np.unique(cuts):
        chosen = np.flatnonzero(cuts == n)
        weights, small = _lattice(int(n))
        points.append(np.einsum("wc,fck->fwk", weights, corner[chosen]).reshape(-1, 3))
        starts = count + len(weights) * np.arange(len(chosen))
        faces.append((small[None] + starts[:, None, None]).reshape(-1, 3))
        of.append(np.repeat(chosen, len(weights)))
        count += len(weights) * len(chosen)
    every, origin = np.concatenate(points), np.concatenate(of)
    normals = room.normals()[origin]
    rows = np.column_stack(
        [room.instances[origin], np.rint(every * 1e5), np.rint(normals * 100).astype(np.int64)]
    )
    _, first, place = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    joined = place.reshape(-1)[np.concatenate(faces)]
    whole = (joined != np.roll(joined, 1, axis=1)).all(1)
    return every[first], normals[first], joined[whole], origin[first]


def _lattice(n: int) -> tuple[Floats, Ints]:
    """Weights (W, 3) of the corners of a triangle for the points that cut it into n x n, and those
    triangles.
    """
    i, j = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
    inside = i + j <= n
    number = np.full(i.shape, -1, np.int64)
    number[inside] = np.arange(int(inside.sum()))
    a, b = i[inside], j[inside]
    weights = np.stack([n - a - b, a, b], 1) / n
    upward = [(x, y) for x in range(n) for y in range(n - x)]
    small = [(number[x, y], number[x + 1, y], number[x, y + 1]) for x, y in upward]
    small += [(number[x + 1, y], number[x + 1, y + 1], number[x, y + 1]) for x, y in upward if x + y < n - 1]
    return weights, np.array(small, np.int64)


def write_scannet(
    root: str | os.PathLike[str],
    train: int = 2,
    val: int = 1,
    test: int = 0,
    frames: int = 0,
    sens: bool = False,
    camera: DepthCamera | None = None,
    edge: float = 0.1,
    seed: int = 0,
    lost: Sequence[int] = (),
) -> Path:
    """Write scans, the table of labels and the lists of splits into a new folder.

    ``scans/SCAN/`` has ``SCAN_vh_clean_2.ply`` (a mesh with colours), ``SCAN_vh_clean_2.labels.ply`` (NYU40's
    numbers), ``SCAN_vh_clean_2.0.010000.segs.json``, ``SCAN.aggregation.json`` and ``SCAN.txt``, on demand
    the frames and ``SCAN.sens``; scans of the test split lie in ``scans_test/`` and have the mesh and
    ``SCAN.txt`` without the alignment. Beside them are ``scannetv2-labels.combined.tsv`` and
    ``scannetv2_{train,val,test}.txt``.

    Scans are turned about z and shifted, as recorded ones are; ``axisAlignment`` undoes it. Coordinates are
    float32, colours 255ths. Every surface of a room is in its mesh, also what no camera saw.

    Args:
        root: the folder to make.
        train, val, test: scans.
        frames: RGB-D frames of every scan, exported as files.
        sens: write the frames as a stream instead.
        camera: of the frames.
        edge: of the mesh, at most, in metres.
        seed: of the rooms.
        lost: frames without a pose.

    Raises:
        ValueError: no scans at all.
        FileExistsError: the folder is there already.
    """
    counts = {"train": train, "val": val, "test": test}
    if min(counts.values()) < 0 or not sum(counts.values()):
        raise ValueError(f"at least 1 scan is expected, got {counts}.")
    number = 0
    with atomic_folder(Path(root)) as folder:
        for split in SPLITS:
            names = []
            for index in range(counts[split]):
                names.append(f"scene{number:04d}_00")
                number += 1
                place = folder / ("scans_test" if split == "test" else "scans") / names[-1]
                room, key = make_room(seed, index, split), scene_key(seed, index, split)
                mesh = scannet_mesh(room, _alignment(key), edge)
                _write_scan(place, mesh, split != "test", frames)
                if frames:
                    back: Floats = np.linalg.inv(mesh.alignment).astype(np.float64)
                    taken = [_moved(f, back) for f in make_frames(room, frames, camera, key)]
                    if sens:
                        write_sens(place / f"{place.name}.sens", taken, lost)
                    else:
                        write_frames(place, taken, lost)
            _lines(folder / f"scannetv2_{split}.txt", names)
        _lines(folder / "scannetv2-labels.combined.tsv", ["\t".join(TSV_COLUMNS), *map("\t".join, _table())])
    return Path(root)


def _moved(frame: Frame, back: Floats) -> Frame:
    return replace(frame, pose=back @ frame.pose)


def _alignment(key: tuple[int, ...]) -> Floats:
    """(4, 4) from a scan's axes to its room's: any turn about z, some metres."""
    rng = stream(key, "alignment")
    angle, shift = rng.uniform(-np.pi, np.pi), rng.uniform(-2, 2, 2)
    alignment = np.eye(4)
    alignment[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    alignment[:2, 3] = shift
    return alignment.round(6)


def _table() -> list[list[str]]:
    rows = []
    for i, kind in enumerate(KINDS):
        values = dict.fromkeys(TSV_COLUMNS, "")
        values |= {"id": str(i + 1), "raw_category": kind.name, "category": kind.name, "count": "1"}
        values |= {"nyu40id": str(kind.nyu40), "nyu40class": kind.name, "nyuClass": kind.name}
        rows.append([values[name] for name in TSV_COLUMNS])
    return rows


def _lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _write_scan(folder: Path, mesh: ScannetMesh, labelled: bool, frames: int) -> None:
    folder.mkdir(parents=True)
    name = folder.name
    _write_ply(folder / f"{name}_vh_clean_2.ply", mesh, None)
    facts = {"numColorFrames": frames, "numDepthFrames": frames, "sceneType": "Office"}
    if labelled:
        facts = {"axisAlignment": " ".join(f"{v:.6f}" for v in mesh.alignment.reshape(-1)), **facts}
        _write_ply(folder / f"{name}_vh_clean_2.labels.ply", mesh, NYU40_OF[mesh.kinds])
        segments = {"params": {"kThresh": "0.0001"}, "sceneId": name, "segIndices": mesh.segments.tolist()}
        (folder / f"{name}_vh_clean_2.0.010000.segs.json").write_text(json.dumps(segments))
        groups = []
        for i, instance in enumerate(np.unique(mesh.instances)):
            rows = mesh.instances == instance
            label = KINDS[int(mesh.kinds[rows][0])].name
            parts = np.unique(mesh.segments[rows]).tolist()
            groups.append({"id": i, "objectId": i, "segments": parts, "label": label})
        whole = {"sceneId": f"scannet.{name}", "appId": "pointlift", "segGroups": groups,
                 "segmentsFile": f"scannet.{name}_vh_clean_2.0.010000.segs.json"}  # fmt: skip
        (folder / f"{name}.aggregation.json").write_text(json.dumps(whole))
    _lines(folder / f"{name}.txt", [f"{key} = {value}" for key, value in facts.items()])


def _write_ply(path: Path, mesh: ScannetMesh, labels: Ints | None) -> None:
    columns = [
        ("x", "<f4"),
        ("y", "<f4"),
        ("z", "<f4"),
        ("red", "u1"),
        ("green", "u1"),
        ("blue", "u1"),
        ("alpha", "u1"),
    ]
    if labels is not None:
        columns.append(("label", "<u2"))
    rows = np.zeros(len(mesh.vertices), columns)
    for i in range(3):
        rows[columns[i][0]], rows[columns[3 + i][0]] = mesh.vertices[:, i], mesh.colors[:, i]
    rows["alpha"] = 255
    if labels is not None:
        rows["label"] = labels
    faces = np.zeros(len(mesh.faces), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.faces
    words = {"<f4": "float", "u1": "uchar", "<u2": "ushort"}
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}"]
    header += [f"property {words[kind]} {name}" for name, kind in columns]
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header"]
    text = "".join(f"{line}\n" for line in header).encode("ascii")
    path.write_bytes(text + rows.tobytes() + faces.tobytes())
