"""Checkpoints at work: voting beside the plain numbers, metrics of parts, and the parts of a user's file."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from plyfile import PlyData
from tiny_checkpoints import PART_DATA, classifier, fitted_parts

from pointlift.commands.embed import embed
from pointlift.commands.evaluate import evaluate
from pointlift.commands.predict import predict
from pointlift.commands.view import view
from pointlift.data.errors import DataError
from pointlift.data.procedural.shapes import make_shapes
from pointlift.data.procedural.writers.objects import write_shapenetpart
from pointlift.evaluate.classification import classification_metrics
from pointlift.evaluate.voting import Voting, average_votes
from pointlift.tasks import open_task
from pointlift.tasks.classify import Classify
from pointlift.tasks.parts import PartPrediction, Parts, part_colors
from pointlift.tasks.predictor import Predictor

SHAPES = "procedural:shapes?classes=table,mug,lamp&test=3"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fitted_parts(tmp_path_factory.mktemp("parts") / "run")


def test_voting_stands_beside_the_plain_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = classifier(tmp_path / "net.safetensors", ("table", "mug", "lamp"), n_points=128)
    for votes, out in ((1, "plain"), (4, "voted")):
        assert (
            evaluate(str(path), data=SHAPES, out=str(tmp_path / out), batch_size=4, seed=7, votes=votes) == 0
        )
    plain, voted = (json.loads((tmp_path / out / "metrics.json").read_text()) for out in ("plain", "voted"))
    assert (
        "voting" not in plain
        and plain["metrics"] == voted["metrics"]
        and plain["protocol"]["votes"] == voted["protocol"]["votes"] == 1
    )
    assert (
        voted["voting"]["votes"] == 4
        and voted["voting"]["seed"] == 7
        and voted["voting"]["scale_of_each_axis"] == [0.85, 1.15]
    )
    said = capsys.readouterr().out
    assert said.count("overall accuracy") == 3 and "with 4 votes (seed 7" in said
    task = open_task(str(path), seed=7)
    assert isinstance(task, Classify)
    samples = task.prepared(task.open(SHAPES, "test", 7))
    mean = average_votes(lambda s: task.predictor.run(s, 2).probabilities, samples, Voting(4, 7))
    expected = classification_metrics(mean, np.array([s.label for s in samples]), task.predictor.classes)
    assert voted["voting"]["metrics"]["confusion"] == expected.confusion.tolist()
    with pytest.raises(ValueError, match="--votes is 0"):
        evaluate(str(path), data=SHAPES, votes=0)


def test_a_checkpoint_of_parts_is_evaluated(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fitted = json.loads((trained.parent / "result.json").read_text())["metrics"]
    source = f"procedural:shapes?classes=table,mug,lamp&test={PART_DATA.test_per_class}"
    assert evaluate(str(trained), data=source, out=str(tmp_path / "out"), batch_size=5, votes=3) == 0
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert content["metrics"]["instance_miou"] == pytest.approx(fitted["val_instance_miou"], abs=1e-6)
    assert content["metrics"]["class_miou"] == pytest.approx(fitted["val_class_miou"], abs=1e-6)
    assert (
        content["voting"]["votes"] == 3
        and content["voting"]["metrics"]["shapes"] == content["metrics"]["shapes"] == 12
    )
    said = capsys.readouterr().out
    assert said.count("instance mIoU") == 2 and "with 3 votes (seed 0)" in said
    assert (tmp_path / "out" / "per_category.csv").read_text().count("\n") == 4
    with pytest.raises(
        DataError, match=r"does not know the category aeroplane, it was trained with .*classes="
    ):
        evaluate(str(trained), data="procedural:shapes?test=1", out=str(tmp_path / "no"))
    with pytest.raises(DataError, match="has no parts"):
        evaluate(str(trained), data=f"folder:{tmp_path}", out=str(tmp_path / "no"))
    other = write_shapenetpart(tmp_path / "part", 1, 1, 0, (60, 90), classes=("mug",))
    with pytest.raises(DataError, match="category Mug"):
        evaluate(str(trained), data=f"shapenetpart:{other}", out=str(tmp_path / "no"))


def test_parts_of_a_file(trained: Path, tmp_path: Path) -> None:
    sample = make_shapes(1, 300, 3, "val", classes=("mug",))[0]
    np.savetxt(tmp_path / "mug.xyz", 5 * sample.xyz + 2)
    predictor = Predictor(str(trained))
    parts = predictor.task
    assert isinstance(parts, Parts)
    cloud = predictor.read(str(tmp_path / "mug.xyz"))
    (found,) = parts.predict([cloud], "mug")
    assert isinstance(found, PartPrediction)
    own = parts.labels.parts[parts.labels.categories.index("mug")]
    assert (
        found.labels.shape == (300,)
        and set(found.labels.tolist()) <= set(own)
        and found.names[own[0]].startswith("mug/")
    )
    prepared_cloud = replace(
        predictor.prepare(cloud), label=1
    )  # points that the network saw have what it said of them
    (seen,) = parts.choose(parts.probabilities([prepared_cloud]), [prepared_cloud])
    normalised = (cloud.xyz - cloud.xyz.mean(0)) / np.linalg.norm(cloud.xyz - cloud.xyz.mean(0), axis=1).max()
    where = [int(np.linalg.norm(normalised - x, axis=1).argmin()) for x in prepared_cloud.xyz]
    assert np.array_equal(found.labels[where], seen) and len(seen) == 128
    assert len(np.unique(found.colors, axis=0)) == len(np.unique(found.labels)) and found.colors.shape == (
        300,
        3,
    )
    (unknown,) = parts.predict([cloud])
    assert (
        isinstance(unknown, PartPrediction)
        and unknown.labels.shape == (300,)
        and unknown.labels.max() < len(unknown.names)
    )
    view = parts.view(cloud, "mug")
    assert (
        view.label_names == found.names
        and view.labels is not None
        and np.array_equal(np.asarray(view.labels), found.labels)
    )
    with pytest.raises(ValueError, match="category 'cup'"):
        parts.predict([cloud], "cup")


def test_files_are_predicted(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = make_shapes(1, 200, 3, "val", classes=("mug",))[0]
    for name in ("a", "b"):
        np.savetxt(tmp_path / f"{name}.xyz", sample.xyz)
    (tmp_path / "bad.xyz").write_text("no numbers here")
    files = [str(tmp_path / f"{name}.xyz") for name in ("a", "bad", "b")]
    out, folder = str(tmp_path / "parts.json"), str(tmp_path / "ply")
    assert predict(str(trained), files, out=out, ply=folder, category="mug") == 2
    content = json.loads(Path(out).read_text())
    good, bad, same = content["predictions"]
    assert sum(good["parts"].values()) == good["points"] == 200 and all(
        name.startswith("mug/") for name in good["parts"]
    )
    assert "bad.xyz" in bad["error"] and same["parts"] == good["parts"] and content["category"] == "mug"
    vertex = PlyData.read(str(tmp_path / "ply" / "a.ply"))["vertex"]
    counts = {
        content["parts"][label]: int((vertex["part"] == label).sum()) for label in np.unique(vertex["part"])
    }
    assert counts == good["parts"] and np.allclose(vertex["x"], sample.xyz[:, 0], atol=1e-5)
    said = capsys.readouterr().err
    assert "warning" not in said and "1 of 3 files could not be used" in said
    assert predict(str(trained), files[:1], out=out) == 0
    said = capsys.readouterr().err
    assert (
        "chosen among those of all categories" in said
        and "give --category, one of " in said
        and said.count("\n") == 1
    )
    html = str(tmp_path / "view.html")
    assert view(files[:1], out=html, checkpoint=str(trained)) == 0 and capsys.readouterr().err == said
    assert (
        view(files[:1], out=html, checkpoint=str(trained), category="mug") == 0
        and capsys.readouterr().err == ""
    )
    with pytest.raises(ValueError, match="category 'cup'"):
        predict(str(trained), files, out=out, category="cup")


def test_other_checkpoints_have_no_parts(tmp_path: Path) -> None:
    path = classifier(tmp_path / "net.safetensors", "abcd")
    with pytest.raises(ValueError, match="tells no parts apart"):
        Parts(Predictor(str(path)))
    with pytest.raises(ValueError, match="tells no parts apart"):
        open_task(str(classifier(tmp_path / "said.safetensors", "abcd", task="parts")))


def test_colors_are_those_of_the_labels() -> None:
    colors = part_colors(np.array([3, 0, 3, 49]))
    assert np.array_equal(colors[0], colors[2]) and colors.min() >= 0 and colors.max() <= 1
    table = part_colors(np.arange(50))
    assert len(np.unique(table, axis=0)) == 50 and np.array_equal(table[3], colors[0])
    assert np.linalg.norm(np.diff(table, axis=0), axis=1).min() > 0.3


def test_parts_as_a_table_as_arrays_and_features_of_points(trained: Path, tmp_path: Path) -> None:
    files = []
    for n in (200, 70):
        files.append(str(tmp_path / f"{n}.xyz"))
        np.savetxt(files[-1], make_shapes(1, n, 3, "val", classes=("mug",))[0].xyz)
    parts = open_task(str(trained))
    assert isinstance(parts, Parts)
    clouds = [parts.predictor.read(file) for file in files]
    labels = [found.labels for found in parts.predict(clouds, "mug") if isinstance(found, PartPrediction)]
    for ending in ("csv", "npz"):
        assert predict(str(trained), files, out=str(tmp_path / f"p.{ending}"), category="mug") == 0
    with (tmp_path / "p.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["file", "points", *parts.labels.names, "error"] and rows[1]["points"] == "70"
    assert [int(rows[1][name]) for name in parts.labels.names] == np.bincount(
        labels[1], minlength=len(parts.labels.names)
    ).tolist()
    arrays = np.load(tmp_path / "p.npz")
    assert arrays["offsets"].tolist() == [0, 200, 270] and arrays["names"].tolist() == list(
        parts.labels.names
    )
    assert np.array_equal(arrays["labels"], np.concatenate(labels))
    out = tmp_path / "e.npz"
    assert embed(str(trained), files, out=str(out), per="point", category="mug") == 0
    features = np.load(out)["features"]
    assert features.shape == (270, 32) and np.isfinite(features).all()
    # of a cloud that the network sees whole, every point has what its classifier saw
    sample = replace(parts.predictor.prepare(clouds[1]), label=parts.category_number("mug"))
    seen = parts.predictor.net.forward_features(parts.predictor.batch([sample])).detach().numpy()
    assert np.allclose(features[200:], seen, atol=1e-3 * np.abs(seen).max())
    assert parts.predictor.embed(clouds[1], "point").shape == (70, 32)
    with pytest.raises(ValueError, match="no features of a whole cloud: use --per point"):
        embed(str(trained), files, out=str(out))
