"""Reads damaged files of every format: `python tools/fuzz_files.py --count 20000 --seed 1`.

A worker reads each with the memory of a good file and --memory bytes more. Counted per format: read, refused
in a DataError, other errors, crashes (also: no answer in a minute), values that are not finite. Files of the
last three kinds are kept in --keep. .las and .laz need the extra [las].
"""

from __future__ import annotations

import argparse
import base64
import importlib.util
import multiprocessing as mp
import resource
import struct
import sys
import tempfile
import warnings
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "data"))
from file_writers import CASES, CLOUD, FACES, VERTICES

ABSURD = (
    b"-1",
    b"nan",
    b"inf",
    b"1e999",
    b"99999999999999999999",
    b"\xff\xff\xff\xff",
    b"\0\0\0\0",
    b"0",
    b",",
)
GLTF = """{"asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}],
"meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
"accessors": [{"bufferView": 0, "componentType": 5126, "count": 5, "type": "VEC3"},
{"bufferView": 1, "componentType": 5123, "count": 18, "type": "SCALAR"}],
"bufferViews": [{"buffer": 0, "byteLength": 60}, {"buffer": 0, "byteOffset": 60, "byteLength": 36}],
"buffers": [{"byteLength": 96, "uri": "data:application/octet-stream;base64,URI"}]}"""
LIMITS = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
KINDS = ("read", "DataError", "other error", "crash", "not finite")


def good_files(folder: Path) -> dict[str, bytes]:
    """One whole file of every format that can be written here."""
    files = {}
    for case, (suffix, write, mesh) in CASES.items():
        path = folder / f"good{suffix}"
        write(path, VERTICES if mesh else CLOUD)
        files[f"{case}{suffix}"] = path.read_bytes()
    files["materials.obj"] = b"usemtl a\n" + files["obj.obj"]  # read_mesh takes another way
    uri = base64.b64encode(VERTICES.astype("<f4").tobytes() + FACES.astype("<u2").tobytes()).decode()
    files["scene.gltf"] = GLTF.replace("URI", uri).encode()
    (folder / "good.gltf").write_bytes(files["scene.gltf"])
    if importlib.util.find_spec("laspy") and importlib.util.find_spec("lazrs"):
        import laspy

        for version, kind in (("1.2", 3), ("1.4", 7)):
            las = laspy.LasData(laspy.LasHeader(point_format=kind, version=version))
            las.header.scales = np.full(3, 1e-4)
            las.x, las.y, las.z = CLOUD.T.astype(np.float64)
            for suffix in (".las", ".laz"):
                las.write(str(folder / f"good{suffix}"))
                files[f"{version}{suffix}"] = (folder / f"good{suffix}").read_bytes()
    return files


def damaged(data: bytes, rng: np.random.Generator, others: list[bytes]) -> bytes:
    """Bit flips, a cut, a splice of another file, a deletion or an absurd number, once to three times."""
    for _ in range(1 if rng.random() < 0.6 else int(rng.integers(2, 4))):
        near = min(400, len(data)) if rng.random() < 0.6 else len(data)  # headers are short
        at, kind = int(rng.integers(0, max(near, 1))), int(rng.integers(0, 6))
        if kind == 0:
            flipped = bytearray(data)
            for i in rng.integers(0, max(near, 1), int(rng.integers(1, 9))):
                if i < len(flipped):
                    flipped[i] ^= 1 << int(rng.integers(0, 8))
            data = bytes(flipped)
        elif kind == 1:
            data = data[: int(rng.integers(0, len(data) + 1))]
        elif kind == 2:
            other = others[int(rng.integers(0, len(others)))]
            start = int(rng.integers(0, max(len(other), 1)))
            data = data[:at] + other[start : start + int(rng.integers(1, 200))] + data[at:]
        elif kind == 3:
            data = data[:at] + data[at + int(rng.integers(1, 50)) :]
        elif kind == 4:
            word = ABSURD[int(rng.integers(0, len(ABSURD)))]
            data = data[:at] + word + data[at + len(word) :]
        else:
            bits = LIMITS[int(rng.integers(0, len(LIMITS)))]
            word = struct.pack("<Q", bits)[: int(rng.choice([2, 4, 8]))]
            data = data[:at] + word + data[at + len(word) :]
    return data


def worker(pipe: Connection, good: list[str], memory: int) -> None:
    """Reads every path that comes through the pipe and answers with a kind and what was raised."""
    from pointlift.data.errors import DataError, DataWarning
    from pointlift.data.files import read_points
    from pointlift.data.files.meshes import MESH_SUFFIXES, read_mesh

    warnings.simplefilter("error")
    warnings.simplefilter("ignore", DataWarning)
    for path in good:  # imports what reading needs
        read_points(path, 64)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
    while path := pipe.recv():
        answers = []
        readers: list[Any] = [lambda p: read_points(p, 64)]
        readers += [read_mesh] if path.endswith(MESH_SUFFIXES) else []
        for read in readers:
            try:
                found = read(path)
                names = (
                    "xyz",
                    "normals",
                    "colors",
                    "features",
                    "vertices",
                    "vertex_colors",
                    "face_colors",
                    "uv",
                )
                arrays = [getattr(found, n) for n in names if getattr(found, n, None) is not None]
                finite = all(np.isfinite(np.asarray(a)).all() for a in arrays)
                answers.append(("read" if finite else "not finite", ""))
            except DataError as error:
                whole = "\n" not in str(error) and path in str(error)
                answers.append(("DataError" if whole else "other error", f"{error}"[:200]))
            except BaseException as error:
                answers.append(("other error", f"{type(error).__name__}: {error}"[:200]))
        pipe.send(max(answers, key=lambda answer: KINDS.index(answer[0])))


def main() -> None:
    """Print a table of counts; exit with 1 where something else than reading or a DataError happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("count", 2000), ("seed", 0), ("memory", 2**30)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--keep", type=Path, help="folder for files that were neither read nor refused")
    parser.add_argument("--only", default="", help="formats whose names contain this")
    given = parser.parse_args()
    counts: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        files = good_files(folder)
        good, names = [str(p) for p in folder.iterdir()], [n for n in files if given.only in n]
        process: Any = None
        for number in range(given.count):
            rng, name = np.random.default_rng([given.seed, number]), names[number % len(names)]
            path = folder / f"damaged{Path(name).suffix}"
            path.write_bytes(damaged(files[name], rng, list(files.values())))
            if process is None:
                here, there = mp.Pipe()
                process = mp.get_context("spawn").Process(target=worker, args=(there, good, given.memory))
                process.start()
                there.close()
            try:
                here.send(str(path))
                kind, said = here.recv() if here.poll(60) else ("crash", "no answer in a minute")
            except (EOFError, OSError):
                kind, said = "crash", "the process ended"
            if kind == "crash":
                process.kill()
                process.join()
                process = None
            counts.setdefault(name, Counter())[kind] += 1
            if kind not in KINDS[:2]:
                print(f"{number} {name}: {kind} {said}", flush=True)
                if given.keep:
                    given.keep.mkdir(parents=True, exist_ok=True)
                    (given.keep / f"{number}{path.suffix}").write_bytes(path.read_bytes())
        if process is not None:
            here.send("")
            process.join()
    print("".join(f"{head:>18}" for head in ("format", *KINDS)))
    total: Counter[str] = sum(counts.values(), Counter())
    for name, row in {**counts, "all": total}.items():
        print(f"{name:>18}" + "".join(f"{row[kind]:18}" for kind in KINDS))
    sys.exit(any(total[kind] for kind in KINDS[2:]))


if __name__ == "__main__":
    main()
