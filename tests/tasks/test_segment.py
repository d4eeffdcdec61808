"""Checkpoints of scenes at work: every point answered, in tiles as in one piece, with or without columns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pointlift.commands.main import main
from pointlift.data.errors import DataError
from pointlift.data.files.points import PointFile, read_points
from pointlift.data.scene_config import SceneDataConfig
from pointlift.methods.optim import OptimConfig
from pointlift.methods.segmentation.scene_recipe import SceneSegmentation
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.config import ModelConfig
from pointlift.report import write_csv
from pointlift.runs.run import run
from pointlift.tasks import open_task
from pointlift.tasks.segment import ScenePrediction, Segment
from tiny_scenes import NETWORK, SOURCE, scene

DATA = SceneDataConfig(
    source=SOURCE, features=["xyz", "colors"], frame="mean", voxel_size=0.2, batch_size=2, max_voxels=10_000
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    out = tmp_path_factory.mktemp("segment") / "run"
    experiment = SceneSegmentation(
        model=ModelConfig(image_model=NETWORK.replace(":build", ":build_wide"), in_channels=0),
        data=DATA,
        optim=OptimConfig(lr=0.1, epochs=8, schedule="poly"),
        trainer=TrainerConfig(accelerator="cpu", enable_progress_bar=False),
    )
    return out / "model.safetensors", run(experiment, out).metrics


@pytest.fixture
def task(checkpoint: tuple[Path, dict[str, float]]) -> Segment:
    found = open_task(str(checkpoint[0]), NETWORK.replace(":build", ":build_wide"), device="cpu")
    assert isinstance(found, Segment)
    return found


def cloud(seed: int = 300, points: int = 2000, colors: bool = True) -> PointFile:
    made = scene(seed, points)
    assert made.features is not None
    return PointFile("room.ply", made.xyz, colors=made.features if colors else None)


def test_evaluate_gives_what_fit_printed(task: Segment, checkpoint: tuple[Path, dict[str, float]]) -> None:
    found = task.evaluate(SOURCE, "val")
    assert found.content["metrics"]["miou"] == pytest.approx(checkpoint[1]["val_miou"], abs=1e-6)
    assert found.content["protocol"]["points_without_class"] == 15
    assert [row[0] for row in found.rows] == ["floor", "box", "rare"] and found.rows[2][1] is None
    with pytest.raises(ValueError, match="without votes"):
        task.evaluate(SOURCE, "val", votes=3)
    with pytest.raises(DataError, match="has objects, scenes whose points"):
        task.evaluate("procedural:shapes", "test")


def test_predict_answers_every_point_and_is_right(task: Segment) -> None:
    made = scene(300, 400)
    (found,) = task.predict([cloud(points=400)])
    assert isinstance(found, ScenePrediction) and found.labels.shape == (400,)
    assert made.part is not None
    known = made.part >= 0
    assert (found.labels == made.part)[known].mean() > 0.9
    assert sum(found.counts().values()) == 400 and "400 points" in found.describe()
    assert set(found.row()) == {"points", "floor", "box", "rare"}


@pytest.mark.parametrize("size", [0.5, 1.3, 50.0])
def test_tiles_equal_the_whole_where_the_halo_covers_what_the_network_sees(
    task: Segment, size: float
) -> None:
    (whole,) = task.predict([cloud()])
    embedded = task.embed(cloud(), "point")
    task.tile, task.halo = size, 0.9  # the network sees two voxels of 0.2 far
    (tiled,) = task.predict([cloud()])
    assert isinstance(whole, ScenePrediction) and isinstance(tiled, ScenePrediction)
    assert np.array_equal(whole.labels, tiled.labels)
    assert np.allclose(task.embed(cloud(), "point"), embedded, atol=1e-4)
    task.halo = 0.0
    assert not np.allclose(task.embed(cloud(), "point"), embedded, atol=1e-4) or size == 50.0


def test_a_missing_column_is_neutral_and_said_once(task: Segment, capsys: pytest.CaptureFixture[str]) -> None:
    bare = cloud(colors=False)
    grey = replace(bare, colors=np.full((2000, 3), 0.5, np.float32))
    first, _ = task.predict([bare, bare])
    said = capsys.readouterr().err
    assert said.count("room.ply has no colors, which the network was trained with") == 1
    (second,) = task.predict([grey])
    assert isinstance(first, ScenePrediction) and isinstance(second, ScenePrediction)
    assert np.array_equal(first.labels, second.labels)


def test_far_coordinates_and_one_point_far_away_change_little(task: Segment) -> None:
    made = cloud()
    (near,) = task.predict([made])
    (moved,) = task.predict([replace(made, origin=(4e6, 5e5, 0.0))])
    assert isinstance(near, ScenePrediction) and isinstance(moved, ScenePrediction)
    assert np.array_equal(near.labels, moved.labels)


def test_the_commands(
    checkpoint: tuple[Path, dict[str, float]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = scene(301, 500)
    assert made.features is not None
    rows = np.concatenate([made.xyz, 255 * made.features], axis=1)
    file = tmp_path / "room.csv"
    write_csv(file, ["x", "y", "z", "red", "green", "blue"], rows.tolist())
    own: list[Any] = ["--image_model", NETWORK.replace(":build", ":build_wide")]
    labelled = tmp_path / "labelled.ply"
    assert main(["predict", str(checkpoint[0]), str(file), "--out", str(labelled), *own]) == 0
    assert len(read_points(labelled)) == 500
    assert (
        main(["view", str(file), "--checkpoint", str(checkpoint[0]), "--out", str(tmp_path / "v.html"), *own])
        == 0
    )
    assert "floor" in (tmp_path / "v.html").read_text()
    out = ["--out", str(tmp_path / "features.npz")]
    assert main(["embed", str(checkpoint[0]), str(file), "--per", "point", *out, *own]) == 0
    assert main(["embed", str(checkpoint[0]), str(file), *out, *own]) == 2
    assert "use --per point" in capsys.readouterr().err
    assert main(["evaluate", str(checkpoint[0]), "--data", SOURCE, "--split", "val", *own]) == 0
    assert "mIoU" in capsys.readouterr().out


def test_arrays_have_the_columns_of_the_network_behind_their_coordinates(task: Segment) -> None:
    made = cloud()
    assert made.colors is not None
    (whole,) = task.predict([made])
    found = task.predictor(np.concatenate([made.xyz, made.colors], axis=1))
    assert isinstance(whole, ScenePrediction) and np.array_equal(found.labels, whole.labels)
    with pytest.raises(
        DataError, match=r"an array has 1 columns behind x, y and z, but the network looks at"
    ):
        task.predictor(np.concatenate([made.xyz, made.colors[:, :1]], axis=1))
