"""`pointlift probe`: straight from a checkpoint, and from two files of embed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from tiny_checkpoints import classifier

from pointlift.commands.main import main
from pointlift.data.procedural.shapes import make_shapes
from pointlift.evaluate.probe import knn, linear_probe
from pointlift.tasks.predictor import Predictor

CLASSES = ("chair", "mug", "table")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of other classes, scans/{train,test}/CLASS, and their features."""
    root = tmp_path_factory.mktemp("probe")
    for split, count in (("train", 4), ("test", 3)):
        shapes = make_shapes(count, 100, 0, split, classes=CLASSES)
        for i in range(len(shapes)):
            folder = root / "scans" / split / CLASSES[shapes[i].label]
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / f"{split}{i}.npy", shapes[i].xyz)
    checkpoint = str(classifier(root / "net.safetensors", ("lamp", "sofa"), n_points=64))
    for split in ("train", "test"):
        scans = str(root / "scans" / split)
        assert main(["embed", checkpoint, scans, "--out", str(root / f"{split}.npz")]) == 0
    return root


def numbers(said: str) -> list[tuple[str, str]]:
    """Accuracy and class mean of both probes."""
    return re.findall(r"(?:linear \(svm\)|kNN \(k 2\)) +(\d+\.\d\d) +(\d+\.\d\d)", said)


def test_both_ways_give_the_numbers_of_the_features(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["probe", str(place / "train.npz"), "--test", str(place / "test.npz"), "--k", "2"]) == 0
    said = capsys.readouterr().out
    out = place / "probe.json"
    words = ["probe", str(place / "net.safetensors"), "--data", f"folder:{place / 'scans'}", "--k", "2"]
    assert main([*words, "--out", str(out)]) == 0
    again = capsys.readouterr().out
    predictor = Predictor(place / "net.safetensors")
    sides = []
    for split in ("train", "test"):
        files = sorted((place / "scans" / split).rglob("*.npy"))
        sides += [np.stack([predictor.embed(f) for f in files])]
        sides += [np.array([CLASSES.index(f.parent.name) for f in files])]
    x, y, x_test, y_test = sides
    found = linear_probe((x, y), (x_test, y_test), CLASSES), knn((x, y), (x_test, y_test), CLASSES, 2)
    expected = [
        (f"{100 * f.metrics.overall_accuracy:.2f}", f"{100 * f.metrics.class_mean_accuracy:.2f}")
        for f in found
    ]
    assert numbers(said) == numbers(again) == expected
    assert "C by 4-fold cross-validation on the training split" in said and "cosine" in said
    assert "train 12, test 9" in said and "train 12, test 9" in again and "at most 64" in again
    content = json.loads(out.read_text(encoding="utf-8"))
    assert content["linear (svm)"]["metrics"]["overall_accuracy"] == found[0].metrics.overall_accuracy


def test_classes_of_a_table(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted((place / "scans").rglob("*.npy"))
    table = tmp_path / "labels.csv"
    rows = "".join(f"{file.name},{'seat' if file.parent.name == 'chair' else 'other'}\n" for file in files)
    table.write_text("file,class\n" + rows, encoding="utf-8")
    words = ["probe", str(place / "train.npz"), "--test", str(place / "test.npz"), "--method", "knn"]
    assert main([*words, "--labels", str(table)]) == 0 and "kNN (k 5)" in capsys.readouterr().out
    table.write_text("file,class\n", encoding="utf-8")
    assert main([*words, "--labels", str(table)]) == 2
    assert "has the columns none, expected file and class" in capsys.readouterr().err


def test_other_checkpoints_columns_and_files_are_refused(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, test = str(place / "train.npz"), str(place / "test.npz")
    with np.load(test) as stored:
        content = dict(stored)
    made = json.loads(str(content["made_by"]))
    assert made["columns"] == ["xyz"] and made["per"] == "cloud" and len(made["checkpoint"]) == 64

    def said(words: list[str]) -> str:
        assert main(["probe", *words]) == 2
        return capsys.readouterr().err

    for change, words in (
        ({"checkpoint": "0" * 64}, "from different checkpoints"),
        ({"columns": ["xyz+own", "normals"]}, "from different columns of the points"),
        ({"preparation": "{}"}, "from different preparations"),
        ({"per": "point"}, "features of points, expected one row per cloud"),
    ):
        other = tmp_path / "other.npz"
        np.savez(other, **{**content, "made_by": np.array(json.dumps({**made, **change}))})
        assert words in said([train, "--test", str(other)])
    np.savez(other, features=content["features"], files=content["files"])
    assert "does not say which checkpoint made it" in said([train, "--test", str(other)])
    other.write_bytes(b"PK nothing")
    assert "is no .npz of embed, or damaged" in said([train, "--test", str(other)])
    assert "files in common" in said([train, "--test", train])
    assert "expected --test" in said([train]) and "expected --data" in said([str(place / "net.safetensors")])
    files = np.array(["x/lamp/1.npy", *content["files"][1:]])
    np.savez(other, **{**content, "files": files})
    assert "files of the class lamp, of which" in said([train, "--test", str(other)])
