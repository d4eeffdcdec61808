"""Every command, called in this process as the shell would call it;
and what it says to input it cannot use.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from plyfile import PlyData

from pointlift.commands.main import COMMANDS, main
from pointlift.commands.parsing import examples
from pointlift.data.procedural.shapes import CLASSES
from pointlift.data.procedural.writers.objects import write_modelnet_h5

QUICK = ["--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu", "--trainer.max_steps", "2"]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two training objects and one test object per class, in ModelNet40's layout."""
    return write_modelnet_h5(
        tmp_path_factory.mktemp("data") / "h5", 2, 2, 64, classes=CLASSES[:4], normals=False
    )


@pytest.fixture(scope="module")
def run(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two steps."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    data = [
        "--data.source",
        f"modelnet:{shapes}",
        "--data.shots",
        "null",
        "--data.batch_size",
        "4",
        "--data.voxel_size",
        "0.1",
    ]
    assert (
        main(
            [
                "fit",
                "image2point/demo.yaml",
                *data,
                "--data.n_points",
                "64",
                "--optim.epochs",
                "1",
                *QUICK,
                "--out",
                str(out),
            ]
        )
        == 0
    )
    return out


@pytest.fixture
def clouds(tmp_path: Path) -> list[Path]:
    """Three readable files of different formats."""
    rng = np.random.default_rng(0)
    files = [tmp_path / "a.npy", tmp_path / "b.xyz", tmp_path / "c.off"]
    np.save(files[0], rng.normal(size=(200, 3)))
    np.savetxt(files[1], rng.normal(size=(30, 3)))
    files[2].write_text("OFF4 4 0\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n3 0 1 3\n3 0 2 3\n3 1 2 3\n")
    return files


# ------------------------------------------------------------------------------------------------ help


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", text, re.MULTILINE)
    assert main(["--version"]) == 0
    assert re.fullmatch(r"pointlift \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_of_every_command_has_examples_and_explains_every_argument(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*name.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: pointlift {name}")
    assert examples(COMMANDS[name])
    for example in examples(COMMANDS[name]):
        assert f"  {example}\n" in text
        assert example.startswith(f"pointlift {name}")
    assert "None" not in text and "Optional" not in text and "Literal" not in text
    for option in inspect.signature(COMMANDS[name]).parameters:
        assert re.search(rf"^  (--)?{option}\b|^  {option.upper()}\b|--key value", text, re.MULTILINE), option


# ------------------------------------------------------------------------------------------------ commands


def test_fit_leaves_everything_about_the_run(run: Path) -> None:
    for name in ("model.safetensors", "metrics.csv", "recipe.yaml", "report.html", "result.json"):
        assert (run / name).stat().st_size > 0
    page = (run / "report.html").read_text(encoding="utf-8")
    for heading in (
        "Curves",
        "Where it errs",
        "Clouds and predictions",
        "What became of the image network",
        "Protocol",
        "Environment",
    ):
        assert f">{heading}</h2>" in page
    assert page.count("data:image/png") == 3
    assert "http://" not in page and "https://" not in page


def test_resume_of_a_finished_run_says_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / "model.safetensors").read_bytes()
    assert main(["fit", str(run / "recipe.yaml"), "--resume"]) == 0
    assert "already complete" in capsys.readouterr().out
    assert (run / "model.safetensors").read_bytes() == before


def test_print_config_is_a_recipe(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["fit", "image2point/modelnet40_resnet50_io+bn.yaml", "--print_config", "--optim.lr", "0.05"]
    assert main(words) == 0
    content = yaml.safe_load(capsys.readouterr().out)
    assert content["method"] == "image2point" and content["optim"]["lr"] == 0.05
    expected = {"momentum": 0.9, "weight_decay": 1e-4, "epochs": 300, "schedule": "cosine"}
    assert expected.items() <= content["optim"].items()
    assert (
        content["data"]["batch_size"] == 32
        and content["data"]["voxel_size"] == 0.05
        and content["data"]["features"] == "xyz"
    )


def test_predict_goes_on_after_a_bad_file(
    run: Path, clouds: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.ply"
    bad.write_bytes(b"nonsense")
    out, coloured = tmp_path / "p.json", tmp_path / "coloured"
    files = [str(clouds[0]), str(bad), *map(str, clouds[1:])]
    assert (
        main(
            [
                "predict",
                str(run / "model.safetensors"),
                *files,
                "--out",
                str(out),
                "--ply",
                str(coloured),
                "--top",
                "2",
            ]
        )
        == 2
    )
    said = capsys.readouterr()
    assert said.err.splitlines()[0].startswith(f"pointlift: {bad}: ")
    assert sum(line.count(" %") == 2 for line in said.out.splitlines()) == 3
    content = json.loads(out.read_text())
    assert content["classes"] == list(CLASSES[:4])
    good = [p for p in content["predictions"] if "class" in p]
    assert len(good) == 3 and [p["file"] for p in content["predictions"] if "error" in p] == [str(bad)]
    for p in good:
        assert sum(p["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        assert p["class"] == max(p["probabilities"], key=p["probabilities"].get)
    vertices = PlyData.read(coloured / "a.ply")["vertex"]
    assert np.allclose(np.stack([vertices[c] for c in "xyz"], 1), np.load(clouds[0]), atol=1e-5)
    assert (
        len({tuple(row) for row in np.stack([vertices[c] for c in ("red", "green", "blue")], 1).tolist()})
        > 10
    )


def test_predictions_are_the_same_every_time_and_follow_the_up_axis(
    run: Path, clouds: list[Path], tmp_path: Path
) -> None:
    def shares(cloud: Path, *words: str) -> list[float]:
        out = tmp_path / "p.json"
        assert main(["predict", str(run / "model.safetensors"), str(cloud), "--out", str(out), *words]) == 0
        return list(json.loads(out.read_text())["predictions"][0]["probabilities"].values())

    assert shares(clouds[0]) == shares(clouds[0])
    standing = tmp_path / "z_up.npy"
    np.save(standing, np.roll(np.load(clouds[0]), 1, axis=1))  # y becomes z
    assert shares(standing, "--up_axis", "z") == pytest.approx(shares(clouds[0]), abs=1e-5)


@pytest.mark.parametrize("per", ["cloud", "point"])
def test_embed(run: Path, clouds: list[Path], tmp_path: Path, per: str) -> None:
    out = tmp_path / "x.npz"
    assert (
        main(["embed", str(run / "model.safetensors"), *map(str, clouds), "--out", str(out), "--per", per])
        == 0
    )
    found = np.load(out)
    assert found["files"].tolist() == [str(c) for c in clouds]
    if per == "cloud":
        assert found["features"].shape == (3, 128)
    else:
        assert found["offsets"].tolist() == [0, 200, 230, 294] and found["features"].shape == (294, 128)
        assert found["xyz"].shape == (294, 3)
    assert np.isfinite(found["features"]).all() and found["features"].std() > 0


def test_evaluate_states_the_protocol(
    run: Path, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "evaluation"
    assert (
        main(["evaluate", str(run / "model.safetensors"), "--data", f"modelnet:{shapes}", "--out", str(out)])
        == 0
    )
    text = capsys.readouterr().out
    for words in (
        "overall accuracy",
        "CDNV",
        "split test",
        "64 random points",
        "voxel size 0.1",
        "votes 1",
    ):
        assert words in text
    content = json.loads((out / "metrics.json").read_text())
    last = (run / "metrics.csv").read_text().splitlines()
    column = last[0].split(",").index("val_accuracy")
    assert content["metrics"]["overall_accuracy"] == pytest.approx(float(last[-1].split(",")[column]))
    assert content["metrics"]["n"] == 8
    for name in ("confusion.png", "tsne.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    assert len((out / "per_class.csv").read_text().splitlines()) == 5


def test_view_with_and_without_a_checkpoint(run: Path, clouds: list[Path], tmp_path: Path) -> None:
    plain, judged = tmp_path / "plain.html", tmp_path / "judged.html"
    assert main(["view", *map(str, clouds), "--out", str(plain)]) == 0
    assert (
        main(["view", str(clouds[0]), "--out", str(judged), "--checkpoint", str(run / "model.safetensors")])
        == 0
    )
    assert "a.npy" in plain.read_text() and any(name in judged.read_text() for name in CLASSES[:4])


def test_lift_writes_a_checkpoint_that_is_not_taken_for_a_trained_one(
    clouds: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "lifted.safetensors"
    assert main(["lift", "fractal_resnet", "--out", str(out), "--num_classes", "3", "--rule", "mean"]) == 0
    text = capsys.readouterr().out
    assert "inflated" in text and "mean along z" in text
    assert main(["predict", str(out), str(clouds[0]), "--out", str(tmp_path / "p.json")]) == 0
    assert "never trained" in capsys.readouterr().err


def test_own_image_model_needs_the_users_word(
    clouds: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = tmp_path / "mine.py"
    code.write_text(
        "from torch import nn\n\ndef build():\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),\n"
        "        nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), "
        "nn.Flatten(), nn.Linear(8, 5))\n"
    )
    out = tmp_path / "own.safetensors"
    assert main(["lift", f"{code}:build", "--out", str(out), "--num_classes", "3"]) == 0
    words = ["predict", str(out), str(clouds[0]), "--out", str(tmp_path / "p.json")]
    assert main(words) == 2
    assert "never runs code" in capsys.readouterr().err
    assert main([*words, "--image_model", f"{code}:build"]) == 0


def test_data_list_check_prepare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list"]) == 0
    assert "procedural:shapes" in capsys.readouterr().out
    meshes, turned = tmp_path / "meshes", tmp_path / "h5"
    assert (
        main(["data", "prepare", "procedural:shapes?train=1&test=1", "--layout", "off", "--out", str(meshes)])
        == 0
    )
    assert main(["data", "prepare", f"modelnet:{meshes}", "--out", str(turned), "--points", "256"]) == 0
    assert main(["data", "check", f"modelnet:{turned}"]) == 0
    assert "14 classes" in capsys.readouterr().out
    with h5py.File(turned / "ply_data_train0.h5") as file:
        assert file["data"].shape == (14, 256, 3)
        names = (turned / "shape_names.txt").read_text().split()
        table = file["data"][list(file["label"][:, 0]).index(names.index("lamp"))]
    assert np.linalg.norm(table, axis=1).max() == pytest.approx(1, abs=1e-5)
    assert main(["data", "prepare", f"modelnet:{meshes}", "--out", str(turned)]) == 2
    assert "already exists" in capsys.readouterr().err
    assert main(["data", "check", f"folder:{tmp_path / 'nowhere'}"]) == 1


@pytest.mark.slow
def test_demo_of_two_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pointlift.commands.demo_runs import run_demo

    out = tmp_path / "demo"
    for _ in range(2):  # the second time finds everything done
        assert run_demo(str(out), 1, 1, 1, 2, ["io+bn", "scratch"], workers=1) == 0
        text = capsys.readouterr().out
        assert re.search(r"^io\+bn +\d+\.\d +\d+\.\d +6,922 +0\.33 ", text, re.MULTILINE)
        assert "epochs to" in text and "The target, " in text and "pointlift predict" in text
    for name in ("report.html", "model.safetensors", "results.csv"):
        assert (out / name).stat().st_size > 0
    assert len((out / "results.csv").read_text().splitlines()) == 3


@pytest.mark.slow
def test_demo_in_processes_gives_what_one_process_gives(tmp_path: Path) -> None:
    from pointlift.commands.demo_runs import run_demo

    def accuracies(name: str, workers: int) -> list[list[str]]:
        assert run_demo(str(tmp_path / name), 1, 2, 1, 2, ["io+bn", "scratch"], workers) == 0
        return [row.split(",")[:5] for row in (tmp_path / name / "results.csv").read_text().splitlines()]

    assert accuracies("two", 2) == accuracies("one", 1)


def test_doctor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert (
        "WRONG" not in text
        and "all 57 checks passed" in text
        and "embedded image model: fractal_resnet" in text
    )
    from pointlift.commands import self_test

    wrong = self_test.sparse_conv
    monkeypatch.setattr(
        self_test,
        "sparse_conv",
        lambda x, weight, kmap, groups=1: wrong(x, weight.flip(0), kmap, groups=groups),
    )
    assert main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert (
        "WRONG: output, input gradient, weight gradient" in text
        and "checks FAILED: conv k3 s1 float32: output" in text
    )
