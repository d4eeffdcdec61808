"""Bad input: one sentence on stderr, the exit code that scripts can rely on, nothing half written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from pointlift.commands.main import main
from pointlift.commands.messages import explain

DEMO = "image2point/demo.yaml"


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("pointlift: ")
    return lines[0]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["doctr"], "unknown command doctr, did you mean doctor?"),
        (["qqq"], "unknown command qqq, expected one of demo, lift, fit"),
        (["data"], "data needs one more word"),
        (["data", "chek", "x"], "unknown command data chek, did you mean data check?"),
        (["predict"], "the argument checkpoint and files is missing"),
        (["predict", "m.safetensors", "a.ply", "--otu", "x"], "unknown option --otu, did you mean --out?"),
        (["doctor", "--wram"], "unknown option --wram, did you mean --warm?"),
        (["demo", "--seeds", "many"], "--seeds is 'many', expected a whole number"),
        (["demo", "--seeds", "0"], "--seeds is 0, at least 1 is expected"),
        (
            ["demo", "--regimes", "io", "oi"],
            "--regimes names oi, expected some of probe, io, io+stats, io+bn, all, scratch",
        ),
        (
            ["lift", "fractal_resnet", "--out", "x", "--rule", "T9"],
            "--rule is 'T9', expected one of 'repeat', 'mean'",
        ),
        (["lift", "resnet81", "--out", "x", "--pretrained", "false"], "no model named 'resnet81'"),
        (
            ["lift", "vit_tiny_patch16_224", "--out", "x", "--pretrained", "false", "--network", "inflated"],
            "Replace that part of the image network",
        ),
        (["lift", "nowhere.py:build", "--out", "x"], "No file nowhere.py"),
        (["lift", "fractal_resnet", "--out", "x", "--load_stages", "9"], "load_stages names stage 9"),
        (["lift", "fractal_resnet", "--out", "x", "--seed", "-1"], "seed must be from 0"),
        (["lift", "fractal_resnet", "--out", "x", "--seed", "99999999999999999999"], "seed must be from 0"),
        (["fit"], "fit needs a recipe as its first word"),
        (["fit", "image2point/demmo.yaml"], "did you mean image2point/demo.yaml"),
        (
            ["fit", DEMO, "--optim.learning_rat", "1"],
            "unknown option --optim.learning_rat, expected one of optim.optimizer, optim.lr",
        ),
        (["fit", DEMO, "--optim.weight_deccay", "1"], "did you mean --optim.weight_decay?"),
        (["fit", DEMO, "--optim.lr", "fast"], "optim.lr is 'fast', expected a number"),
        (["fit", DEMO, "--data.voxel_size", "0"], "data: voxel_size is 0.0, expected a positive number"),
        (["fit", DEMO, "--data.voxel_size", "-1"], "data: voxel_size is -1.0, expected a positive number"),
        (["fit", DEMO, "--data.source", "modelnet:nowhere"], "nowhere"),
        (["fit", DEMO, "--resume", "--out", "nothing_here"], "Nothing to resume in nothing_here"),
        (["evaluate", "no.safetensors", "--data", "procedural:shapes"], "No checkpoint at no.safetensors"),
        (["view", "no.ply"], "no.ply: no such file"),
        (["data", "prepare", "folder:nowhere", "--out", "x"], "nowhere: no such folder"),
        (
            ["data", "prepare", "procedural:shapez", "--layout", "modelnet-h5", "--out", "x"],
            "unknown procedural dataset 'shapez'",
        ),
    ],
)
def test_one_sentence_and_exit_code_2(
    words: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert sentence in said(capsys)
    assert not list(tmp_path.iterdir()), "something was left behind"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"\x80\x02}q\x00.", "is a torch pickle, not a pointlift checkpoint"),
        (b"PK\x03\x04garbage", "is a torch pickle"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{", "is truncated"),
        (b"hello, this is text", "is not a pointlift checkpoint"),
    ],
)
def test_checkpoints_that_are_none(
    content: bytes, sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    assert main(["predict", str(file), "cloud.ply"]) == 2
    assert sentence in said(capsys)


@pytest.mark.parametrize("name", ["evil.pth", "evil.safetensors"])
def test_weights_with_code_inside_are_refused(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import torch

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(tmp_path / "hacked"),))

    torch.save({"state_dict": Evil()}, tmp_path / name)
    assert (
        main(
            [
                "lift",
                "fractal_resnet",
                "--weights",
                str(tmp_path / name),
                "--out",
                str(tmp_path / "x.safetensors"),
            ]
        )
        == 2
    )
    assert "never executes" in said(capsys)
    assert not (tmp_path / "hacked").exists() and not (tmp_path / "x.safetensors").exists()


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (
            "def build(size): return None",
            "build in mine.py fails when it is called without arguments (TypeError",
        ),
        ("def build(): raise RuntimeError('no disc')", "is called without arguments (RuntimeError: no disc)"),
        (
            "from torch import nn\ndef build(): return nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))",
            "Sequential has no Conv2d",
        ),
    ],
)
def test_image_models_of_the_user_that_are_none(
    code: str,
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(code)
    assert main(["lift", "mine.py:build", "--out", "x.safetensors"]) == 2
    assert sentence in said(capsys)
    assert not Path("x.safetensors").exists()


def test_weights_that_are_no_safetensors_are_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "w.safetensors").write_bytes(bytes(range(256)) * 4)
    assert (
        main(
            [
                "lift",
                "fractal_resnet",
                "--weights",
                str(tmp_path / "w.safetensors"),
                "--out",
                str(tmp_path / "x.safetensors"),
            ]
        )
        == 2
    )
    assert "w.safetensors is not a safetensors file" in said(capsys)


def test_one_class_is_nothing_to_tell_apart(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / "mine" / split / "chair").mkdir(parents=True)
        for i in range(3):
            np.save(
                tmp_path / "mine" / split / "chair" / f"{i}.npy",
                np.random.default_rng(i).normal(size=(50, 3)),
            )
    out = tmp_path / "run"
    recipe = "image2point/your_own_folder.yaml"
    assert (
        main(
            [
                "fit",
                recipe,
                "--data.source",
                f"folder:{tmp_path / 'mine'}",
                "--model.pretrained",
                "false",
                "--out",
                str(out),
            ]
        )
        == 2
    )
    assert "1 class (chair), at least 2 are expected" in said(capsys)
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "sentence"), [("a.npy", "not begin with numpy's mark"), ("a.npz", "not begin as a zip archive")]
)
def test_no_advice_to_unpickle_garbage(
    name: str, sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(b"no cloud at all" * 50)
    assert main(["view", str(tmp_path / name), "--out", str(tmp_path / "v.html")]) == 2
    assert sentence in said(capsys)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a file size limit stands in for a full disk")
def test_prepare_on_a_full_disk_neither_crashes_nor_leaves_anything(tmp_path: Path) -> None:
    for name in ("chair", "table"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        for i in range(4):
            np.save(tmp_path / "mine" / name / f"{i}.npy", np.random.default_rng(i).normal(size=(50, 3)))
    code = (
        "import resource, signal, sys; from pointlift.commands.main import main; "
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4000, "
        f"4000)); sys.exit(main(['data', 'prepare', 'folder:{tmp_path / 'mine'}', '--out', "
        f"'{tmp_path / 'out' / 'h5'}', '--points', '400']))"
    )
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1 and "file too large" in done.stderr.lower()
    assert not list((tmp_path / "out").iterdir())


def test_recipe_file_with_an_unknown_key(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("method: image2point\ndata:\n  voxel_sise: 0.1\n")
    assert main(["fit", str(file)]) == 2
    assert "unknown key data.voxel_sise, did you mean data.voxel_size?" in said(capsys)


def test_programming_errors_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    from pointlift.commands import self_test

    def broken() -> int:
        raise AttributeError("a fault of ours")

    monkeypatch.setattr(self_test, "self_test", broken)
    with pytest.raises(AttributeError, match="a fault of ours"):
        main(["doctor"])


@pytest.mark.parametrize(
    ("message", "expected"), [("go on with --resume", "go on with --resume"), ("", "interrupted")]
)
def test_interruption(
    message: str, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pointlift.commands import self_test

    def stopped() -> int:
        raise KeyboardInterrupt(*([message] if message else []))

    monkeypatch.setattr(self_test, "self_test", stopped)
    assert main(["doctor"]) == 130
    assert expected in said(capsys)


def test_traceback_on_demand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("POINTLIFT_DEBUG", "1")
    assert main(["view", str(tmp_path / "no.ply")]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "model.safetensors"),
            "the disk is full (model.safetensors)",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "x.json"), "x.json: permission denied"),
        (MemoryError(), "out of memory"),
        (RuntimeError("PytorchStreamWriter failed writing file data/3"), "disk is full"),
        (ValueError("several\nlines   here"), "several lines here"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), None),
        (TypeError("unexpected keyword"), None),
        (KeyError("x"), None),
    ],
)
def test_which_errors_are_the_users(error: Exception, sentence: str | None) -> None:
    found = explain(error)
    assert found is None if sentence is None else sentence in str(found)
    assert found is None or "\n" not in found


def test_warnings_of_pointlift_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    from pointlift.commands.messages import plain_warnings

    with plain_warnings():
        warnings.warn_explicit("one voxel is left", UserWarning, f"{os.sep}x{os.sep}pointlift{os.sep}a.py", 1)
    assert said(capsys) == "pointlift: warning: one voxel is left"


def test_broken_pipe_is_no_error() -> None:
    code = "import sys; from pointlift.commands.main import main; sys.exit(main(['fit', '--help']))"
    command = f'{sys.executable} -c "{code}" | head -1; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stderr == "" and done.stdout.startswith("usage: pointlift fit")


def test_draws_are_refused_where_they_would_change_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["embed", "any.safetensors", "any.ply", "--per", "point", "--draws", "3"]
    assert (
        main([*words, "--out", str(tmp_path / "e")]) == 2
        and "points have those of one" in capsys.readouterr().err
    )
