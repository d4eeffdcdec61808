"""The same files give the same answers in the evaluation of a run, in evaluate, predict and embed: for every
kind of source, every choice of columns, and points in the order of a scanner.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fitting import fit_image2point
from tiny_clouds import TRAINER
from tiny_net import NAME

from pointlift.data.config import DataConfig
from pointlift.data.training_clouds import load_splits
from pointlift.methods.optim import OptimConfig
from pointlift.models.config import ModelConfig
from pointlift.tasks import open_task
from pointlift.tasks.classify import Classify

SHAPES = {"ball": (1.0, 1.0, 1.0), "stick": (0.2, 0.2, 1.5)}


def points(name: str, rng: np.random.Generator, n: int = 400) -> np.ndarray:
    """(n, 3) on an ellipsoid, from its bottom to its top, as a scanner may write them."""
    xyz = rng.normal(size=(n, 3))
    xyz = xyz / np.linalg.norm(xyz, axis=1, keepdims=True) * SHAPES[name] * rng.uniform(0.8, 1.2)
    return np.asarray(xyz[np.argsort(xyz[:, 2])])


def cloud(path: Path, name: str, rng: np.random.Generator, columns: str) -> None:
    xyz = points(name, rng)
    head, values = "".join(f"property float {c}\n" for c in "xyz"), [xyz.round(4).astype(object)]
    for column_name in columns.split():
        painted = not column_name.startswith("n")
        head += f"property {'uchar' if painted else 'float'} {column_name}\n"
        column = rng.integers(0, 256, len(xyz)) if painted else rng.uniform(-1, 1, len(xyz)).round(3)
        values.append(column[:, None].astype(object))
    rows = "\n".join(" ".join(map(str, row)) for row in np.concatenate(values, axis=1))
    path.write_text(f"ply\nformat ascii 1.0\nelement vertex {len(xyz)}\n{head}end_header\n{rows}\n")


def mesh(path: Path, name: str, rng: np.random.Generator, columns: str) -> None:
    """A box; its corners may be painted."""
    size = np.array(SHAPES[name]) * rng.uniform(0.8, 1.2) * 50
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * size
    sides = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [(a, b, c) for a, b, c, _ in sides] + [(a, c, d) for a, _, c, d in sides]
    head = "".join(f"property float {c}\n" for c in "xyz") + "".join(
        f"property uchar {c}\n" for c in columns.split()
    )
    paint = rng.integers(0, 256, (8, 3)) if columns else corners[:, :0]
    rows = [" ".join(map(str, (*a, *b))) for a, b in zip(corners, paint)]
    rows += [f"3 {a} {b} {c}" for a, b, c in faces]
    path.write_text(
        f"ply\nformat ascii 1.0\nelement vertex 8\n{head}element face {len(faces)}\n"
        "property list uchar int vertex_indices\nend_header\n" + "\n".join(rows) + "\n"
    )


@pytest.mark.parametrize(
    ("source", "write", "columns", "features", "normalise", "thinning"),
    [
        ("folder", cloud, "", "xyz", "unit-sphere", "random"),
        pytest.param("folder", cloud, "", "xyz", "none", "fps", marks=pytest.mark.slow),
        pytest.param(
            "folder", cloud, "red green blue", "xyz+own", "unit-sphere", "random", marks=pytest.mark.slow
        ),
        pytest.param("folder", cloud, "nx ny nz", "own", "unit-sphere", "random", marks=pytest.mark.slow),
        ("folder", cloud, "nx ny nz red green blue", "xyz+own", "none", "random"),
        pytest.param("folder", mesh, "", "xyz", "unit-sphere", "random", marks=pytest.mark.slow),
        pytest.param("meshes", mesh, "", "xyz", "none", "random", marks=pytest.mark.slow),
        ("meshes", mesh, "", "xyz+own", "none", "random"),
        pytest.param(
            "meshes", mesh, "red green blue", "xyz+own", "unit-sphere", "random", marks=pytest.mark.slow
        ),
    ],
)
def test_fit_evaluate_predict_and_embed_agree(
    tmp_path: Path,
    source: str,
    write: object,
    columns: str,
    features: str,
    normalise: str,
    thinning: str,
) -> None:
    assert callable(write)
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 4)):
        for name in SHAPES:
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for i in range(count):
                write(tmp_path / "data" / split / name / f"{i}.ply", name, rng, columns)
    kinds = 3 * ((features != "own") + (features != "xyz") * max(1, len(columns.split()) // 3))
    scale = 60.0 if normalise == "none" and write is mesh else 1.0
    data = DataConfig(
        f"{source}:{tmp_path / 'data'}?up_axis=z",
        n_points=100,
        voxel_size=0.25 * scale,
        batch_size=6,
        features=features,  # type: ignore[arg-type]
        normalise=normalise,  # type: ignore[arg-type]
        thinning=thinning,  # type: ignore[arg-type]
    )
    result = fit_image2point(
        ModelConfig(NAME, in_channels=kinds),
        data,
        OptimConfig(lr=0.02, epochs=3),
        TRAINER,
        3,
        tmp_path / "run",
    )
    task = open_task(str(result.checkpoint), NAME)
    assert isinstance(task, Classify)
    found = task.evaluate(data.source, "test").content["metrics"]
    assert found["overall_accuracy"] == pytest.approx(result.metrics["val_accuracy"])
    clouds = load_splits(data, 3).val
    prepared = task.prepared(
        task.open(data.source, "test", task.split_seed(data.source, task.predictor.mesh_seed))
    )
    measured = task.predictor.run(prepared)
    answers = task.predictor.predict(list(clouds.paths))
    # sums of a batch of another size may round otherwise
    told = np.stack([answer.probabilities for answer in answers])
    assert np.abs(told - measured.probabilities).max() < 1e-5
    embedded = np.stack([task.predictor.embed(path) for path in clouds.paths])
    assert np.abs(embedded - measured.features).max() < 1e-4 * np.abs(embedded).max()
    right = np.mean([a.label == clouds.classes[i] for a, i in zip(answers, clouds.labels)])
    assert right == pytest.approx(result.metrics["val_accuracy"])
