"""Reads damaged files of every format: `python tools/fuzz_files.py --count 20000 --seed 1`.

A worker reads each with the memory of a good file and --memory bytes more. Counted per format: refused in a
DataError, read, other errors, crashes (also: no answer in a minute), values that are not finite. Files of the
last three kinds are kept in --keep. .las and .laz need the extra [las].
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing as mp
import resource
import shutil
import struct
import sys
import tempfile
import warnings
from collections import Counter
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, TimeoutError
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from pointlift.data.errors import DataError, DataWarning
from pointlift.data.files import read_points
from pointlift.data.files.meshes import MESH_SUFFIXES, read_mesh

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "data"))
from file_writers import CASES, CLOUD, VERTICES

ABSURD = (*b"-1 nan inf 1e999 99999999999999999999 0 ,".split(), b"\xff" * 4, bytes(4))
LIMITS = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
KINDS = ("DataError", "read", "other error", "crash", "not finite")


def good_files(folder: Path) -> dict[str, bytes]:
    """One whole file of every format that can be written here."""
    files = {}
    for case, (suffix, write, mesh) in CASES.items():
        path = folder / f"good{suffix}"
        write(path, VERTICES if mesh else CLOUD)
        files[f"{case}{suffix}"] = path.read_bytes()
    files["materials.obj"] = b"usemtl a\n" + files["obj.obj"]  # read_mesh takes another way
    ball = trimesh.Scene(trimesh.creation.icosphere(0))
    files["scene.gltf"] = trimesh.exchange.gltf.export_gltf(ball, embed_buffers=True)["model.gltf"]
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
            flipped = np.frombuffer(data, np.uint8).copy()
            for i in rng.integers(0, near, int(rng.integers(1, 9))) if near else ():
                flipped[i] ^= 1 << int(rng.integers(0, 8))
            data = flipped.tobytes()
        elif kind == 1:
            data = data[: int(rng.integers(0, len(data) + 1))]
        elif kind == 2:
            other = others[int(rng.integers(0, len(others)))]
            start = int(rng.integers(0, len(other)))
            data = data[:at] + other[start : start + int(rng.integers(1, 200))] + data[at:]
        elif kind == 3:
            data = data[:at] + data[at + int(rng.integers(1, 50)) :]
        else:
            bits = struct.pack("<Q", LIMITS[int(rng.integers(0, len(LIMITS)))])[
                : 2 ** int(rng.integers(1, 4))
            ]
            word = bits if kind == 4 else ABSURD[int(rng.integers(0, len(ABSURD)))]
            data = data[:at] + word + data[at + len(word) :]
    return data


def prepare(good: list[str], memory: int) -> None:
    """In a worker: import what reading needs, then limit its memory."""
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", DataWarning)
    for path in good:
        read_points(path, 64)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))


def answer(path: str) -> tuple[str, str]:
    """In a worker: one of KINDS and what was raised, the worse of reading points and a mesh."""
    names = ("xyz", "normals", "colors", "features", "vertices", "vertex_colors", "face_colors", "uv")
    answers = []
    readers: list[Any] = [lambda p: read_points(p, 64)]
    for read in readers + ([read_mesh] if path.endswith(MESH_SUFFIXES) else []):
        try:
            found = read(path)
            arrays = [np.asarray(getattr(found, n)) for n in names if getattr(found, n, None) is not None]
            answers.append(("read" if all(np.isfinite(a).all() for a in arrays) else "not finite", ""))
        except DataError as error:
            whole = "\n" not in str(error) and path in str(error)
            answers.append(("DataError" if whole else "other error", str(error)[:200]))
        except BaseException as error:
            answers.append(("other error", f"{type(error).__name__}: {error}"[:200]))
    return max(answers, key=lambda a: KINDS.index(a[0]))


def main() -> None:
    """Print a table of counts; exit with 1 where something else than reading or a DataError happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("count", 2000), ("seed", 0), ("memory", 2**30)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--keep", type=Path, default=Path("damaged"), help="folder for what went wrong")
    given = parser.parse_args()
    counts: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as place:
        files = good_files(Path(place))
        names, contents = list(files), list(files.values())
        arguments, pool = ([str(p) for p in Path(place).iterdir()], given.memory), None
        for number in range(given.count):
            name = names[number % len(names)]
            path = Path(place) / f"damaged{Path(name).suffix}"
            path.write_bytes(damaged(files[name], np.random.default_rng([given.seed, number]), contents))
            pool = pool or ProcessPoolExecutor(1, mp.get_context("spawn"), prepare, arguments)
            try:
                kind, said = pool.submit(answer, str(path)).result(60)
            except (BrokenExecutor, TimeoutError) as error:
                kind, said, pool = "crash", type(error).__name__, None
                for process in mp.active_children():
                    process.kill()
            counts.setdefault(name, Counter())[kind] += 1
            if kind not in KINDS[:2]:
                print(f"{number} {name}: {kind} {said}", flush=True)
                given.keep.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, given.keep / f"{number}{path.suffix}")
    counts["all"] = sum(counts.values(), Counter())
    for name, row in counts.items():
        print(f"{name:>18}  " + "  ".join(f"{kind} {row[kind]}" for kind in KINDS))
    sys.exit(any(counts["all"][kind] for kind in KINDS[2:]))


if __name__ == "__main__":
    main()
