"""A checkpoint's metadata say what it is for; a task is one file and a line in TASKS."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_checkpoints import classifier

import pointlift
from pointlift.commands.embed import embed
from pointlift.commands.evaluate import evaluate
from pointlift.commands.predict import predict
from pointlift.commands.view import view
from pointlift.data.config import DataConfig
from pointlift.data.errors import DataError
from pointlift.data.training_clouds import load_splits
from pointlift.methods.image2point import Image2Point
from pointlift.runs.result import RunResult
from pointlift.system.own_code import named
from pointlift.tasks import TASKS, open_task
from pointlift.tasks.classify import Classification, Classify
from pointlift.tasks.files import cloud_names
from pointlift.tasks.predictor import Predictor
from pointlift.tasks.report import RunSummary, write_report
from pointlift.weights.checkpoints import task_of

BIGGEST = '''
from dataclasses import dataclass

import numpy as np

from pointlift.report import ViewCloud
from pointlift.tasks.task import Prediction, Task


@dataclass(frozen=True)
class Extent(Prediction):
    points: int
    extent: float

    def describe(self, top=3):
        return f"{self.extent:.2f} wide"

    def to_dict(self):
        return {"points": self.points, "extent": self.extent}


class Width(Task):
    """How wide a cloud is."""

    name = "width"

    def predict(self, clouds, category=None):
        return [Extent(len(c), float(np.ptp(c.xyz[:, 0]))) for c in clouds]

    def heading(self, category):
        return {"unit": "of the file"}

    def view(self, cloud, category=None):
        return ViewCloud("wide", cloud.xyz, caption=self.predict([cloud])[0].describe())
'''


@pytest.fixture
def cloud(tmp_path: Path) -> Path:
    path = tmp_path / "cloud.npy"
    np.save(path, np.random.default_rng(0).normal(size=(150, 3)))
    return path


def test_old_files_say_what_they_are_for_by_what_they_have() -> None:
    assert task_of({}) == task_of({"parts": []}) == "classify"
    assert task_of({"parts": [], "categories": []}) == "parts"
    assert task_of({"parts": [], "categories": [], "task": "segment"}) == "segment"
    assert {name: named(target).name for name, target in TASKS.items()} == {name: name for name in TASKS}


def test_a_task_in_a_file_of_its_own_serves_the_checkpoints_that_name_it(
    cloud: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(classifier(tmp_path / "net.safetensors", "abcd", task="width"))
    with pytest.raises(
        ValueError, match=r"of the task 'width', this version of pointlift has classify, parts.*TASKS"
    ):
        open_task(checkpoint)
    code = tmp_path / "width.py"
    code.write_text(BIGGEST)
    monkeypatch.setitem(TASKS, "width", f"{code}:Width")
    assert open_task(checkpoint).name == "width"
    out, html = tmp_path / "p.json", tmp_path / "view.html"
    assert predict(checkpoint, [str(cloud)], out=str(out)) == 0
    assert view([str(cloud)], out=str(html), checkpoint=checkpoint) == 0 and " wide" in html.read_text()
    (found,) = json.loads(out.read_text())["predictions"]
    expected = float(np.ptp(np.load(cloud).astype(np.float32)[:, 0]))
    assert found == {"file": str(cloud), "points": 150, "extent": expected}
    assert (
        json.loads(out.read_text())["unit"] == "of the file"
        and f"{expected:.2f} wide" in capsys.readouterr().out
    )
    for refused, command in (
        ("embed", lambda: embed(checkpoint, [str(cloud)], out=str(tmp_path / "e.npz"))),
        ("evaluate", lambda: evaluate(checkpoint, data="procedural:shapes", out=str(tmp_path / "ev"))),
        ("predict --ply", lambda: predict(checkpoint, [str(cloud)], out=str(out), ply=str(tmp_path / "ply"))),
    ):
        with pytest.raises(ValueError, match=f"of the task width, which has no {refused}"):
            command()
    with pytest.raises(
        ValueError,
        match="--category mug is for checkpoints of part segmentation, this one is of the task width",
    ):
        predict(checkpoint, [str(cloud)], out=str(out), category="mug")


def test_predictor_answers_for_files_arrays_and_lists(cloud: Path, tmp_path: Path) -> None:
    predictor = pointlift.Predictor(classifier(tmp_path / "net.safetensors", ("cat", "dog"), n_points=64))
    assert isinstance(predictor.task, Classify)
    found = predictor(cloud)
    assert isinstance(found, Classification) and found.label in ("cat", "dog") and found.points == 150
    assert found.probabilities.shape == (2,) and found.probabilities.sum() == pytest.approx(1, abs=1e-6)
    assert found.describe(1).startswith(found.label) and found.to_dict()["class"] == found.label
    for same in (str(cloud), np.load(cloud), torch.from_numpy(np.load(cloud)), predictor.read(cloud)):
        assert np.array_equal(predictor.predict(same).probabilities, found.probabilities)
    both = predictor([cloud, np.load(cloud)[:40]])
    assert (
        len(both) == 2
        and np.allclose(both[0].probabilities, found.probabilities, atol=1e-5)
        and both[1].points == 40
    )
    assert predictor.embed(cloud).shape == (64,)
    assert predictor.embed(cloud, per="point").shape == (150, 48)
    with pytest.raises(ValueError, match="--category mug"):
        predictor(cloud, category="mug")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((4, 2)), r"an array \(N, 3\) of coordinates.*got \(4, 2\)"),
        (np.zeros(3), r"got \(3,\)"),
        (np.array([["a", "b", "c"]] * 3), "got .* <U1"),
        (np.zeros((1, 3)), "has 1 point, a shape needs at least 2"),
        (np.full((5, 3), np.nan), "NaN or infinite values in 5 of them"),
    ],
)
def test_arrays_that_are_no_clouds(values: np.ndarray, words: str, tmp_path: Path) -> None:
    predictor = Predictor(classifier(tmp_path / "net.safetensors", "ab"))
    with pytest.raises(DataError, match=words):
        predictor(values)


def test_further_columns_of_an_array_are_features(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(50, 6))
    both = Predictor(classifier(tmp_path / "six.safetensors", "abc", channels=6, features="xyz+own"))
    moved = points.copy()
    moved[:, 3:] += 1
    assert not np.array_equal(both(points).probabilities, both(moved).probabilities)
    with pytest.raises(ValueError, match="has no features of its own"):
        both(points[:, :3])
    plain = Predictor(classifier(tmp_path / "three.safetensors", "abc"))
    assert np.array_equal(plain(points).probabilities, plain(moved).probabilities)


def test_files_of_one_stem_are_numbered() -> None:
    names = cloud_names(["a/x.ply", "b/x.off", "s.h5#1", "s.h5#1", "y.xyz"], "out")
    assert names == [Path("out") / f"{name}.ply" for name in ("x", "x_2", "s", "s_2", "y")]


@pytest.mark.parametrize(
    ("best", "words"),
    [
        ({"epoch": 0, "val_accuracy": 0.75}, "50.0 % after the last epoch (75.0 % after epoch 1, the best"),
        ({}, "accuracy 50.0 % after the last epoch;"),
    ],
)
def test_the_end_line_counts_epochs_from_one(best: dict[str, float], words: str, tmp_path: Path) -> None:
    """As the plots do: the row of metrics.csv whose epoch is 0 is the first."""
    files = tmp_path / "model.safetensors", tmp_path / "metrics.csv"
    assert words in Image2Point().summary(RunResult({"val_accuracy": 0.5}, best, *files, 1.0, 1, 2))


def test_the_end_line_says_which_split_each_number_is_of(tmp_path: Path) -> None:
    files = tmp_path / "model.safetensors", tmp_path / "metrics.csv"
    metrics = {"val_accuracy": 0.5, "test_accuracy": 0.4}
    best = {"epoch": 2, "val_accuracy": 0.75, "test_accuracy": 0.6}
    assert (
        Image2Point()
        .summary(RunResult(metrics, best, *files, 1.0, 1, 2))
        .startswith(
            "accuracy on the test split 40.0 % after the last epoch, 60.0 % after epoch 3, the best one on "
            "the held-out part of the training split (75.0 % there); 1 s"
        )
    )


def test_report_of_a_run(tmp_path: Path) -> None:
    data = DataConfig(classes=["table", "mug"], train_per_class=2, test_per_class=3, n_points=64)
    judged = load_splits(data, 0).val
    checkpoint = classifier(tmp_path / "model.safetensors", ("table", "mug"), n_points=64)
    (tmp_path / "metrics.csv").write_text("epoch,train_loss,val_accuracy\n0,1.0,0.5\n1,0.5,\n")
    summary = RunSummary(
        result=RunResult({"teacher_val_accuracy": 0.75}, {}, checkpoint, tmp_path / "metrics.csv", 2.0, 1, 4),
        recipe_text="method: <mine>\n",
        image_model=None,
        judged=judged,
        source="procedural:shapes",
        batch_size=4,
        seed=0,
        protocol={"method": "mine", "recipe": {}, "environment": {"torch": "2"}},
    )
    path = write_report(summary)
    assert path == tmp_path / "report.html"
    page = path.read_text(encoding="utf-8")
    headings = [
        "Result",
        "Curves",
        "Where it errs",
        "Features",
        "Clouds and predictions",
        "Protocol",
        "Environment",
    ]
    places = [page.index(f">{heading}</h2>") for heading in headings]
    assert places == sorted(places) and "What became of the image network" not in page
    for words in (
        "25.00",
        "whose own accuracy on these objects is 75.00 %",
        "method: &lt;mine&gt;",
        "(6 clouds)",
    ):
        assert words in page
