"""`pointlift predict` with a checkpoint of part segmentation: the part of every point of the user's own files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from plyfile import PlyData, PlyElement

from pointlift.system.atomic import atomic_write
from pointlift.tasks.part_prediction import PartPrediction, PartPredictor
from pointlift.tasks.predictor import Float32, Predictor

__all__ = ["predict_part_files", "write_part_ply"]

BAD_INPUT = 2


def predict_part_files(
    checkpoint: str, files: list[str], out: str, ply: str | None, category: str | None, up_axis: str | None = None
) -> int:
    """Parts of every file, printed and written to `out`; 2 where a file could not be predicted, else 0.

    category: what all the files show; None where it is not known. ply: folder for one .ply per file, coloured by part, with the label of
    every point as the property "part". The JSON: {"checkpoint", "parts": names, "category", "predictions": [{"file", "points", "parts":
    {name: points}} or {"file", "error"}]}. Raises ValueError for a checkpoint that tells no parts apart, or does not know the category.
    """
    predictor = Predictor(checkpoint, None, up_axis)
    parts = PartPredictor(predictor)
    parts.category_number(category)
    if (doubt := parts.doubt(category)) is not None:
        print(f"pointlift: warning: {doubt}", file=sys.stderr)
    results: list[dict[str, Any]] = []
    taken: set[str] = set()
    for file in files:
        try:
            cloud = predictor.read(file)
            found = parts.predict(cloud, category)
        except (ValueError, OSError) as error:
            sentence = " ".join(str(error).split())
            print(f"pointlift: {sentence}", file=sys.stderr)
            results.append({"file": file, "error": sentence})
            continue
        labels, counts = np.unique(found.labels, return_counts=True)
        named = {found.names[label]: int(n) for label, n in zip(labels, counts)}
        results.append({"file": file, "points": len(cloud), "parts": named})
        print(f"{file}: " + ", ".join(f"{name} {100 * n / len(cloud):.1f} %" for name, n in named.items()))
        if ply is not None:
            stem = Path(file.replace("#", "_")).stem
            name = next(n for n in (stem, *(f"{stem}_{i}" for i in range(2, len(files) + 2))) if n not in taken)
            taken.add(name)
            write_part_ply(Path(ply) / f"{name}.ply", cloud.xyz, found)
    content = {"checkpoint": checkpoint, "parts": list(parts.labels.names), "category": category, "predictions": results}
    with atomic_write(out) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    failed = sum("error" in r for r in results)
    print(f"wrote {out}" + (f" and {len(files) - failed} coloured clouds in {ply}" if ply is not None else ""))
    return BAD_INPUT if failed else 0


def write_part_ply(path: Path, xyz: Float32, found: PartPrediction) -> Path:
    """A binary .ply of points (N, 3), each with its part's colour and label."""
    kinds = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1"), ("part", "<i4")]
    rows = np.empty(len(xyz), dtype=kinds)
    for column, name in enumerate("xyz"):
        rows[name] = xyz[:, column]
    for column, name in enumerate(("red", "green", "blue")):
        rows[name] = np.round(255 * found.colors[:, column])
    rows["part"] = found.labels
    with atomic_write(path) as temporary:
        PlyData([PlyElement.describe(rows, "vertex")]).write(str(temporary))
    return path
