"""Fragments and rotations as options: against a loop of dicts, and their cost against the passes made."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import scene_networks
from pointlift.commands.main import main
from pointlift.commands.scene_files import see_scenes
from pointlift.core.point_batch import PointBatch
from pointlift.data.files.points import PointFile
from pointlift.data.sample import Sample
from pointlift.tasks import open_task
from pointlift.tasks.scene_passes import CostLines, Passes, shown
from pointlift.tasks.segment import ScenePrediction, Segment
from pointlift.tasks.task import Task
from scene_networks import scene_network
from tiny_scenes import LABELS, SOURCE

VOXEL = 0.4
FEATURES = ("normals", "height", "xyz", "colors")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return scene_network(tmp_path_factory.mktemp("passes"), features=FEATURES, frame="mean", voxel=VOXEL)


@pytest.fixture
def task(checkpoint: tuple[str, str]) -> Segment:
    found = open_task(*checkpoint, device="cpu")
    assert isinstance(found, Segment)
    return found


@pytest.fixture
def forwards(task: Segment) -> Iterator[list[int]]:
    """A 1 for every forward of the task's network."""
    seen: list[int] = []
    handle = task.predictor.net.register_forward_pre_hook(lambda net, given: seen.append(1))
    yield seen
    handle.remove()


def room(points: int = 97, seed: int = 0) -> PointFile:
    rng = np.random.default_rng(seed)
    xyz = rng.uniform((0, 0, 0), (3, 2, 1), (points, 3)).astype(np.float32)
    normals = rng.normal(size=(points, 3)).astype(np.float32)
    colors = rng.random((points, 3)).astype(np.float32)
    return PointFile("room.ply", xyz, colors=colors, normals=normals)


def probabilities_by_hand(task: Segment, cloud: PointFile, split: bool, turns: int) -> np.ndarray:
    """(N, 4), with voxels as keys of a dict and points turned one by one."""
    assert cloud.normals is not None and cloud.colors is not None
    middle = cloud.xyz.astype(np.float64).mean(axis=0)
    total = np.zeros((len(cloud.xyz), 4))
    for k in range(turns):
        a = 2 * math.pi * k / turns
        about = np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])
        base = (cloud.xyz - middle).astype(np.float32)
        xyz = np.stack([about @ p for p in base]).astype(np.float32)
        normals = np.stack([about @ n for n in cloud.normals]).astype(np.float32)
        features = np.concatenate([normals, xyz[:, 2:], xyz, cloud.colors - 0.5], axis=1)
        groups: dict[tuple[int, ...], list[int]] = {}
        for row in np.random.default_rng(0).permutation(len(xyz)).tolist():
            groups.setdefault(tuple(math.floor(float(v) / VOXEL) for v in xyz[row]), []).append(row)
        fragments = [list(range(len(xyz)))]
        if split:
            most = max(map(len, groups.values()))
            fragments = [sorted(g[i % len(g)] for g in groups.values()) for i in range(most)]
        answered: set[int] = set()
        for rows in fragments:
            given = PointBatch.from_list(
                [torch.tensor(xyz[rows])], [torch.tensor(features[rows], dtype=torch.float32)]
            )
            with torch.no_grad():
                found = torch.softmax(task.predictor.net(given), 1).numpy()
            for row, answer in zip(rows, found):
                if row not in answered:  # later it is context
                    answered.add(row)
                    total[row] += answer / turns
        assert len(answered) == len(xyz)
    return total


@pytest.mark.parametrize("split", [False, True], ids=["whole", "fragments"])
@pytest.mark.parametrize("turns", [1, 3])
@pytest.mark.parametrize("points", [1, 97])
def test_options_give_what_a_loop_gives(task: Segment, split: bool, turns: int, points: int) -> None:
    """Of a network that looks at coordinates and normals, so that every turn is answered otherwise."""
    cloud = room(points)
    task.see(Passes(split, turns))
    (found,) = task.predict([cloud])
    assert isinstance(found, ScenePrediction)
    expected = probabilities_by_hand(task, cloud, split, turns)
    best = np.sort(expected, axis=1)
    sure = best[:, -1] - best[:, -2] > 1e-4  # of the others rounding decides
    assert sure.mean() > 0.95
    np.testing.assert_array_equal(found.labels[sure], expected.argmax(1)[sure])


def test_options_change_answers(task: Segment) -> None:
    answers = []
    for passes in (Passes(), Passes(tta=4), Passes(True), Passes(True, 4)):
        task.see(passes)
        (found,) = task.predict([room()])
        assert isinstance(found, ScenePrediction)
        answers.append(found.labels)
    assert all((answers[i] != answers[j]).any() for i in range(4) for j in range(i))


@pytest.mark.parametrize("split", [False, True], ids=["whole", "fragments"])
@pytest.mark.parametrize("tile", [None, 2.1])
def test_the_cost_that_is_said_is_the_number_of_forwards(
    task: Segment, forwards: list[int], capsys: pytest.CaptureFixture[str], split: bool, tile: float | None
) -> None:
    task.see(Passes(split, 3))
    task.tile, task.halo = tile, 0.5
    task.predict([room()])
    said = capsys.readouterr().err
    total = re.search(r"room.ply: 1 scene × .*3 rotations = (\d+) forward passes", said)
    assert total is not None and int(total[1]) == len(forwards) and "1 of " in said and " left" in said
    assert ("fragments" in said) == split
    forwards.clear()
    clouds = [room(50), room(5, 1), room(60, 2)]
    samples = [task.prepare(cloud) for cloud in clouds]
    cost = task._cost(samples)
    for sample in samples:
        task.labels(sample, cost)
    assert cost.done == cost.total == len(forwards)
    assert "3 scenes × " in capsys.readouterr().err


def test_a_scene_in_tiles_and_fragments_is_the_scene_in_fragments(task: Segment) -> None:
    task.see(Passes(True, 2))
    (whole,) = task.predict([room()])
    task.tile, task.halo = 2.1, 1.0  # the network sees one voxel of 0.4 far
    (tiled,) = task.predict([room()])
    assert isinstance(whole, ScenePrediction) and isinstance(tiled, ScenePrediction)
    assert (whole.labels == tiled.labels).mean() > 0.99


def test_one_pass_is_the_default_and_says_nothing(
    task: Segment, forwards: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    task.predict([room()])
    assert len(forwards) == 1 and "passes" not in capsys.readouterr().err
    assert task.protocol() == "one forward pass a scene, every point gets the answer of its voxel"
    assert Passes().describe("points").endswith("every point is answered by itself")
    assert Passes(True, 4).describe("voxels").endswith("mean softmax over 4 rotations about z")


def test_directions_turn_and_the_rest_stays() -> None:
    rows = np.arange(50, dtype=np.float32).reshape(5, 10)
    quarter = Passes(tta=4).turns[1]
    turned = shown(Sample(rows[:, 4:7], features=rows), quarter, FEATURES)
    assert turned.features is not None
    for columns in (slice(0, 3), slice(4, 7)):
        x, y, z = rows[:, columns].T
        np.testing.assert_allclose(turned.features[:, columns], np.stack([-y, x, z], 1), atol=1e-4)
    np.testing.assert_array_equal(turned.features[:, [3, 7, 8, 9]], rows[:, [3, 7, 8, 9]])
    np.testing.assert_allclose(turned.xyz, turned.features[:, 4:7], atol=1e-4)


def test_the_time_is_told_after_the_first_scene(capsys: pytest.CaptureFixture[str]) -> None:
    cost = CostLines(Passes(True, 2), [[3, 4], [2, 2]])
    assert (
        capsys.readouterr().err
        == "pointlift: 2 scenes × 2 to 4 fragments × 2 rotations = 11 forward passes\n"
    )
    for _ in range(6):
        cost.told()
    assert not capsys.readouterr().err
    cost.told()
    assert capsys.readouterr().err.startswith("pointlift: 7 of 11 forward passes took 0.0 s, about 0 s left")
    for _ in range(4):
        cost.told()
    assert not capsys.readouterr().err and cost.done == 11
    CostLines(Passes(False, 2), [])
    assert "0 scenes × 2 rotations = 0 forward passes" in capsys.readouterr().err


def test_the_commands_state_what_was_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scene_networks, "NAMES", LABELS.names)
    trained, network = scene_network(tmp_path, features=("xyz", "colors"), frame="mean", voxel=0.2)
    own = ["--image_model", network]
    words = ["evaluate", trained, "--data", SOURCE, "--split", "val", "--out", str(tmp_path / "e"), *own]
    assert main([*words, "--fragments", "--tta", "2"]) == 0
    printed = capsys.readouterr()
    assert re.search(r"3 scenes × .* fragments × 2 rotations = \d+ forward passes", printed.err)
    assert "protocol: fragments with one point of every voxel" in printed.out
    protocol = json.loads((tmp_path / "e" / "metrics.json").read_text())["protocol"]
    assert protocol["fragments"] is True and protocol["rotations"] == 2
    assert "mean softmax over 2 rotations" in protocol["passes"]
    cloud = tmp_path / "room.npy"
    np.save(cloud, np.concatenate([room().xyz, np.full((97, 3), 200.0)], axis=1))
    out = ["--out", str(tmp_path / "labels.npy")]
    assert main(["predict", trained, str(cloud), *out, *own, "--fragments", "--tta", "3"]) == 0
    assert "room.npy: 1 scene × " in capsys.readouterr().err
    assert len(np.load(tmp_path / "labels.npy")) == 97
    assert main(["predict", trained, str(cloud), *out, *own, "--tta", "0"]) == 2
    assert "--tta is 0, at least 1 is expected" in capsys.readouterr().err
    monkeypatch.setattr("pointlift.commands.scene_files.MOST", 50)
    assert main(["predict", trained, str(cloud), *out, *own, "--fragments"]) == 2
    assert "has about 97 points, more than the 50 that are held in memory" in capsys.readouterr().err


def test_where_an_option_does_not_apply_a_sentence_says_so(
    task: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(task.predictor.net), "takes", "points")
    with pytest.raises(ValueError, match=r"--fragments take one point of every voxel .* a Near, which sees"):
        task.see(Passes(True))
    task.see(Passes(tta=2))  # turns need no voxels
    monkeypatch.setattr(task.predictor, "trained_up", "y")
    with pytest.raises(ValueError, match=r"--tta 2 turns scenes about z, but .* with y pointing up"):
        task.see(Passes(tta=2))

    class Other(Task):
        name = "classify"

    other = Other(task.predictor)
    see_scenes(other, False, 1)
    for wrong in ((True, 1, "--fragments"), (False, 3, "--tta 3")):
        with pytest.raises(ValueError, match=f"{wrong[2]} is for checkpoints of scenes, .* task classify"):
            see_scenes(other, *wrong[:2])
