"""Every script in examples/ runs, on embedded data, and is short enough to be read at once."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from pointlift.methods import METHODS

FOLDER = Path(__file__).resolve().parents[2] / "examples"
SAYS = {  # what a user is told in the end, and a file that is there then
    "image2point": ("parameters learned", "model.safetensors"),
    "distillation": ("right on unseen clouds: teacher", "teacher/model.safetensors"),
    "view_teacher": ("become a feature of 128 channels", "model.safetensors"),
    "point_generator": ("64 points drawn from six pictures", "generated.ply"),
    "pointcmt": ("student, which sees their points alone", "generator/model.safetensors"),
    "part_segmentation": ("a mug of 1024 points", "mug.ply"),
    "scene_segmentation": ("a room of ", "room.ply"),
    "ppkt": ("on an unseen room", "pretrained/report.html"),
    "global_transfer": ("of unseen clouds find their picture", "crd/model.safetensors"),
    "pointcontrast": ("of unseen points find their match", "model.safetensors"),
    "pseudo_labels": ("both networks agree on", "model.safetensors"),
    "image_pretraining": ("on unseen clouds", "images/model.safetensors"),
    "image_collapse": ("on 24 pictures (val)", "result.json"),
    "predict": ("are most alike", "predictions.json"),
    "lift": ("regime io+bn: 6,398 of 2,078,974", "report.txt"),
}
QUICK = ("image2point", "image_collapse", "lift")
PARAMETERS = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in SAYS]


def run(name: str, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Call the script as from a shell, in this process."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.syspath_prepend(FOLDER)  # where the shell's Python looks first
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
    spec.loader.exec_module(module)
    module.main()


@pytest.mark.parametrize("name", PARAMETERS)
def test_it_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    says, file = SAYS[name]
    run(name, "--out", str(tmp_path / "out"), monkeypatch=monkeypatch)
    assert says in capsys.readouterr().out and (tmp_path / "out" / file).is_file()


def test_a_second_time_it_tells_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for _ in range(2):
        arguments = ("--out", str(tmp_path / "run"), "--model", "fractal_resnet")
        run("image_collapse", *arguments, monkeypatch=monkeypatch)
        said.append(capsys.readouterr().out)
    assert "is already complete" in said[1] and said[0].splitlines()[-2:] == said[1].splitlines()[-2:]


@pytest.mark.slow
def test_files_and_a_checkpoint_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("image2point", "--out", str(tmp_path / "run"), monkeypatch=monkeypatch)
    cloud = tmp_path / "cloud.xyz"
    cloud.write_text("\n".join(f"{i % 7} {i % 5} {i % 3}" for i in range(105)))
    checkpoint = str(tmp_path / "run" / "model.safetensors")
    arguments = [str(cloud), "--checkpoint", checkpoint, "--out", str(tmp_path / "answers")]
    run("predict", *arguments, monkeypatch=monkeypatch)
    assert "cloud.xyz: " in capsys.readouterr().out and (tmp_path / "answers" / "predictions.json").is_file()


def test_they_are_short_and_there_is_one_for_every_method() -> None:
    scripts = {path.stem: path.read_text(encoding="utf-8").splitlines() for path in FOLDER.glob("*.py")}
    assert set(scripts) - {"command_line"} == set(SAYS) == {*METHODS, "predict", "lift"}
    assert {name: len(lines) for name, lines in scripts.items() if len(lines) > 60} == {}
    assert max(len(line) for lines in scripts.values() for line in lines) <= 110
    words = ('add_argument("--out"', "arguments(__doc__")  # also broken over lines
    assert all(any(word in "".join(lines).replace(" ", "") for word in words) for lines in scripts.values())
