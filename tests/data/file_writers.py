"""Writes a small cloud or mesh in every format that the readers read, independently of them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import plyfile
import pytest
import trimesh

from pointlift.data.errors import DataError

# a square pyramid without its base's second triangle; coordinates exact in float32
VERTICES = np.array([[0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1], [0.5, 1, 0.5]], dtype=np.float64)
FACES = np.array([[0, 1, 2], [0, 2, 3], [0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]])
CLOUD = np.random.default_rng(5).normal(size=(50, 3)).astype(np.float32)
Writer = Callable[[Path, np.ndarray], None]


def write_off(path: Path, vertices: np.ndarray, faces: np.ndarray = FACES) -> None:
    lines = ["OFF", f"{len(vertices)} {len(faces)} 0"]
    lines += [" ".join(repr(float(v)) for v in row) for row in vertices] + [
        f"3 {a} {b} {c}" for a, b, c in faces
    ]
    path.write_text("\n".join(lines) + "\n")


def write_obj(path: Path, vertices: np.ndarray, faces: np.ndarray = FACES) -> None:
    lines = ["# made by a test", "o thing"] + [
        "v " + " ".join(repr(float(v)) for v in row) for row in vertices
    ]
    path.write_text("\n".join(lines + [f"f {a + 1}/1/1 {b + 1}//2 {c + 1}" for a, b, c in faces]) + "\n")


def write_stl(path: Path, vertices: np.ndarray, faces: np.ndarray = FACES) -> None:
    with path.open("wb") as file:
        file.write(b"binary stl".ljust(80) + struct.pack("<I", len(faces)))
        for face in faces:
            file.write(struct.pack("<12fH", 0, 0, 0, *vertices[face].ravel(), 0))


def write_stl_text(path: Path, vertices: np.ndarray, faces: np.ndarray = FACES) -> None:
    text = "solid thing\n"
    for face in faces:
        corners = "".join(f"   vertex {x!r} {y!r} {z!r}\n" for x, y, z in vertices[face].tolist())
        text += f" facet normal 0 0 0\n  outer loop\n{corners}  endloop\n endfacet\n"
    path.write_text(text + "endsolid thing\n")


def write_ply(
    path: Path,
    points: np.ndarray,
    text: bool = False,
    extra: dict[str, np.ndarray] | None = None,
    faces: list[list[int]] | None = None,
) -> None:
    columns = {
        "x": points[:, 0].astype("f4"),
        "y": points[:, 1].astype("f4"),
        "z": points[:, 2].astype("f4"),
        **(extra or {}),
    }
    rows = np.empty(len(points), [(n, c.dtype) for n, c in columns.items()])
    for name, column in columns.items():
        rows[name] = column
    elements = [plyfile.PlyElement.describe(rows, "vertex")]
    if faces is not None:
        table = np.empty(len(faces), [("vertex_indices", object)])
        table["vertex_indices"] = [np.asarray(f, dtype="i4") for f in faces]
        elements.append(plyfile.PlyElement.describe(table, "face", val_types={"vertex_indices": "i4"}))
    plyfile.PlyData(elements, text=text).write(str(path))


def write_ply_mesh(path: Path, vertices: np.ndarray) -> None:
    write_ply(path, vertices, faces=FACES.tolist())


def write_ply_mesh_text(path: Path, vertices: np.ndarray) -> None:
    write_ply(path, vertices, text=True, faces=[[0, 1, 2, 3], *FACES[2:].tolist()])


def compress_lzf(data: bytes) -> bytes:
    """Greedy LZF with three-byte matches, written from the format's description."""
    out, seen, at, literals = bytearray(), {}, 0, bytearray()

    def flush() -> None:
        for start in range(0, len(literals), 32):
            piece = literals[start : start + 32]
            out.extend([len(piece) - 1, *piece])
        literals.clear()

    while at < len(data):
        before = seen.get(data[at : at + 3])
        seen[data[at : at + 3]] = at
        length = 0
        if before is not None and at - before <= 8192 and at + 3 <= len(data):
            while at + length < len(data) and length < 264 and data[before + length] == data[at + length]:
                length += 1
        if length >= 3:
            flush()
            code, back = length - 2, at - before - 1
            out.extend(
                [(code << 5) | (back >> 8), back & 255]
                if code < 7
                else [(7 << 5) | (back >> 8), code - 7, back & 255]
            )
            at += length
        else:
            literals.append(data[at])
            at += 1
    flush()
    return bytes(out)


def write_pcd(path: Path, points: np.ndarray, kind: str = "ascii") -> None:
    rgb = np.full(len(points), (255 << 16) + (128 << 8), dtype="<u4")
    header = (
        "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z rgb intensity\nSIZE 4 4 4 4 4\nTYPE F F F U F\nCOUNT 1 1 1 1 "
        "1\n"
        f"WIDTH {len(points)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(points)}\nDATA {kind}\n"
    ).encode()
    rows = np.empty(
        len(points), [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<u4"), ("intensity", "<f4")]
    )
    rows["x"], rows["y"], rows["z"], rows["rgb"], rows["intensity"] = *points.T, rgb, 0.5
    if kind == "ascii":
        body = "".join(
            f"{float(r[0])!r} {float(r[1])!r} {float(r[2])!r} {r[3]} {float(r[4])!r}\n" for r in rows
        ).encode()
    elif kind == "binary":
        body = rows.tobytes()
    else:
        plain = b"".join(rows[n].tobytes() for n in rows.dtype.names)
        packed = compress_lzf(plain)
        body = struct.pack("<II", len(packed), len(plain)) + packed
    path.write_bytes(header + body)


def write_h5(path: Path, points: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        file["data"] = points.astype("f4")


def write_csv(path: Path, points: np.ndarray) -> None:
    rows = [f"{i},{z!r},{y!r},{x!r}\n" for i, (x, y, z) in enumerate(points.astype(float).tolist())]
    path.write_text("index,z,y,x\n" + "".join(rows))


def write_bin(path: Path, points: np.ndarray) -> None:
    intensity = np.full((len(points), 1), 0.25)
    path.write_bytes(np.hstack([points, intensity]).astype("<f4").tobytes())


def write_glb(path: Path, vertices: np.ndarray) -> None:
    trimesh.Trimesh(vertices, FACES, process=False).export(str(path))


def fields(points: np.ndarray) -> np.ndarray:
    """A structured array with fields Z, Y, X and red, green, blue."""
    rows = np.zeros(len(points), [(n, "<f4") for n in "ZYX"] + [(n, "u1") for n in ("red", "green", "blue")])
    rows["X"], rows["Y"], rows["Z"] = points.T
    rows["red"] = 255
    return rows


# name of the case -> (extension, writer, is a mesh)
CASES: dict[str, tuple[str, Writer, bool]] = {
    "off": (".off", write_off, True),
    "obj": (".obj", write_obj, True),
    "stl": (".stl", write_stl, True),
    "stl-text": (".stl", write_stl_text, True),
    "ply-mesh": (".ply", write_ply_mesh, True),
    "ply-mesh-text": (".ply", write_ply_mesh_text, True),
    "ply": (".ply", write_ply, False),
    "ply-text": (".ply", lambda p, x: write_ply(p, x, text=True), False),
    "npy": (".npy", lambda p, x: np.save(p, x), False),
    "npz": (".npz", lambda p, x: np.savez(p, xyz=x), False),
    "npz-compressed": (".npz", lambda p, x: np.savez_compressed(p, points=x), False),
    "pcd": (".pcd", write_pcd, False),
    "pcd-binary": (".pcd", lambda p, x: write_pcd(p, x, "binary"), False),
    "pcd-compressed": (".pcd", lambda p, x: write_pcd(p, x, "binary_compressed"), False),
    "xyz": (".xyz", lambda p, x: np.savetxt(p, x), False),
    "txt": (".txt", lambda p, x: np.savetxt(p, x, delimiter=","), False),
    "h5": (".h5", write_h5, False),
    "csv": (".csv", write_csv, False),
    "pts": (".pts", lambda p, x: np.savetxt(p, x, header=str(len(x)), comments=""), False),
    "bin": (".bin", write_bin, False),
    "glb": (".glb", write_glb, True),
    "npy-fields": (".npy", lambda p, x: np.save(p, fields(x)), False),
}
ALL = pytest.mark.parametrize("case", CASES)
CLOUDS = pytest.mark.parametrize("case", [name for name, (_, _, mesh) in CASES.items() if not mesh])
MESHES = pytest.mark.parametrize("case", [name for name, (_, _, mesh) in CASES.items() if mesh])


def written(tmp_path: Path, case: str, points: np.ndarray | None = None) -> Path:
    suffix, write, mesh = CASES[case]
    path = tmp_path / f"thing{suffix}"
    write(path, (VERTICES if mesh else CLOUD) if points is None else points)
    return path


def one_sentence(error: pytest.ExceptionInfo[DataError], path: Path) -> str:
    message = str(error.value)
    assert "\n" not in message and str(path) in message and len(message) < 400 + len(str(path))
    return message
