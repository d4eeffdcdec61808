"""`pointlift predict` and `pointlift embed`: a checkpoint on the user's own files."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from plyfile import PlyData, PlyElement

from pointlift.data.files.points import PointFile
from pointlift.system.atomic import atomic_write
from pointlift.tasks.part_inference import predict_part_files
from pointlift.tasks.part_prediction import is_part_checkpoint
from pointlift.tasks.predictor import Float32, Predictor, feature_colors, refuse_category
from pointlift.weights.checkpoints import read_metadata

__all__ = ["embed_files", "predict_files", "write_ply"]

BAD_INPUT = 2


def predict_files(
    checkpoint: str,
    files: list[str],
    out: str,
    ply: str | None,
    top: int,
    image_model: str | None = None,
    up_axis: str | None = None,
    category: str | None = None,
) -> int:
    """Probabilities of every file, printed and written to `out`; 2 where a file could not be predicted, else 0.

    Checkpoints of part segmentation tell the parts instead, of what `category` names: see `predict_part_files`.
    The JSON: {"checkpoint", "classes", "predictions": [{"file", "class", "probabilities": {class: p}} or {"file", "error"}]}.
    """
    if top < 1:
        raise ValueError(f"--top is {top}, at least 1 is expected")
    if is_part_checkpoint(read_metadata(checkpoint)):
        return predict_part_files(checkpoint, files, out, ply, category, up_axis)
    refuse_category(category)
    predictor = Predictor(checkpoint, image_model, up_axis)
    if ply is not None:
        predictor.check_point_features()
    _warn_untrained(predictor)
    names = _ply_names(files, ply)
    results: list[dict[str, Any]] = []
    for file, cloud, error in _read_all(predictor, files):
        if cloud is None:
            results.append({"file": file, "error": error})
            continue
        probabilities = predictor.run([predictor.prepare(cloud)]).probabilities[0]
        best = predictor.classes[int(probabilities.argmax())]
        shares = {name: round(float(p), 6) for name, p in zip(predictor.classes, probabilities)}
        results.append({"file": file, "class": best, "points": len(cloud), "probabilities": shares})
        print(f"{file}: {predictor.caption(probabilities, top)}")
        if ply is not None:
            write_ply(names[file], cloud.xyz, feature_colors(predictor.point_features(cloud, 8)))
    with atomic_write(out) as temporary:
        content = {"checkpoint": checkpoint, "classes": list(predictor.classes), "predictions": results}
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    failed = sum("error" in r for r in results)
    print(f"wrote {out}" + (f" and {len(files) - failed} coloured clouds in {ply}" if ply is not None else ""))
    if up_axis is None and failed < len(files):
        other = "y" if predictor.trained_up == "z" else "z"
        print(f"{predictor.trained_up} was taken for up, as in training; --up_axis {other} turns files that stand on {other}")
    return _outcome(failed, len(files))


def embed_files(checkpoint: str, files: list[str], out: str, per: str, image_model: str | None = None, up_axis: str | None = None) -> int:
    """Features of every readable file as one .npz; 2 where a file was left out, else 0.

    per "cloud": features (n, C), files (n,). per "point": features (N, C), xyz (N, 3), offsets (n + 1,), files (n,).
    Raises ValueError where no file can be read; nothing is written then.
    """
    if is_part_checkpoint(read_metadata(checkpoint)):
        raise ValueError(f"{checkpoint} is a network of parts, whose features embed does not give: use a classifier's checkpoint")
    predictor = Predictor(checkpoint, image_model, up_axis)
    if per == "point":
        predictor.check_point_features()
    used: list[str] = []
    features: list[Float32] = []
    points: list[Float32] = []
    for file, cloud, _ in _read_all(predictor, files):
        if cloud is None:
            continue
        used.append(file)
        points.append(cloud.xyz)
        features.append(predictor.run([predictor.prepare(cloud)]).features if per == "cloud" else predictor.point_features(cloud))
    if not used:
        raise ValueError(f"none of the {len(files)} files could be read, so {out} was not written")
    arrays: dict[str, Any] = {"features": np.concatenate(features), "files": np.array(used)}
    if per == "point":
        arrays["xyz"] = np.concatenate(points)
        arrays["offsets"] = np.cumsum([0, *(len(p) for p in points)])
    target = Path(out) if Path(out).suffix == ".npz" else Path(f"{out}.npz")
    with atomic_write(target) as temporary:
        np.savez_compressed(temporary, **arrays)
    rows, channels = arrays["features"].shape
    print(f"wrote {target}: {rows:,} x {channels} features, one row per {per}")
    return _outcome(len(files) - len(used), len(files))


def write_ply(path: Path, xyz: Float32, colors: Float32) -> Path:
    """A binary .ply of points (N, 3) and colours (N, 3) in 0-1."""
    rows = np.empty(len(xyz), dtype=[("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")])
    for column, name in enumerate("xyz"):
        rows[name] = xyz[:, column]
    for column, name in enumerate(("red", "green", "blue")):
        rows[name] = np.round(255 * colors[:, column])
    with atomic_write(path) as temporary:
        PlyData([PlyElement.describe(rows, "vertex")]).write(str(temporary))
    return path


def _read_all(predictor: Predictor, files: list[str]) -> Iterator[tuple[str, PointFile | None, str]]:
    """Every file with its cloud, or None and the sentence that was also printed."""
    for file in files:
        try:
            yield file, predictor.read(file), ""
        except (ValueError, OSError) as error:
            sentence = " ".join(str(error).split())
            print(f"pointlift: {sentence}", file=sys.stderr)
            yield file, None, sentence


def _ply_names(files: list[str], folder: str | None) -> dict[str, Path]:
    """One name per file in `folder`; files of the same stem are numbered."""
    names: dict[str, Path] = {}
    taken: set[str] = set()
    for file in files if folder is not None else ():
        stem = Path(file.replace("#", "_")).stem
        name = next(n for n in (stem, *(f"{stem}_{i}" for i in range(2, len(files) + 2))) if n not in taken)
        taken.add(name)
        names[file] = Path(folder or "") / f"{name}.ply"
    return names


def _warn_untrained(predictor: Predictor) -> None:
    if not predictor.trained:
        print("pointlift: warning: this checkpoint was lifted but never trained, so its probabilities mean nothing", file=sys.stderr)


def _outcome(failed: int, total: int) -> int:
    if failed:
        print(f"pointlift: {failed} of {total} files could not be read, see above", file=sys.stderr)
    return BAD_INPUT if failed else 0
