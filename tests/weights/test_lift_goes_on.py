"""The command that `lift` prints trains the network that it wrote, from the file that it wrote."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import pointlift as pl
from pointlift.commands.main import main
from pointlift.runs.recipes import resolve_recipe
from pointlift.weights.checkpoints import read_weights
from pointlift.weights.network import build_network


def next_command(text: str) -> list[str]:
    return shlex.split(next(line for line in text.splitlines() if line.startswith("  pointlift fit ")))


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--rule", "mean", "--axis", "x", "--head", "mlp", "--load_stages", "1", "2", "--in_channels", "4"],
        ["--stem", "three-conv", "--shortcut_kernel", "2", "--rule", "released-z-axis"],
    ],
)
def test_the_next_command(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pl.backend("reference"):
        assert main(["lift", "fractal_resnet", "--out", "my lifted.safetensors", *words]) == 0
    command = next_command(capsys.readouterr().out)
    recipe = resolve_recipe(command[2], command[3:])
    assert recipe.resolved["model"]["cloud_weights"] == "my lifted.safetensors"
    assert recipe.resolved["data"]["source"] == "folder:YOUR_FOLDER"
    net = build_network(recipe.experiment.model, 3, seed=5)  # type: ignore[attr-defined]
    _, written = read_weights("my lifted.safetensors")
    fresh = tuple(n for n in net.state_dict() if n.startswith("head."))
    given: dict[str, Tensor] = {n: t for n, t in net.state_dict().items() if n not in fresh}
    assert given.keys() <= written.keys()
    assert all(torch.equal(t, written[n]) for n, t in given.items())


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["--network", "unet", "--num_classes", "5", "--in_channels", "4"],
        ["--network", "unet", "--stem", "inflate", "--decoder", "hypercolumn", "--rule", "mean"],
        ["--network", "range-view", "--in_channels", "4", "--num_classes", "3"],
    ],
)
def test_the_next_command_of_a_network_for_scenes(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["lift", "fractal_resnet", "--out", "lifted.safetensors", *words]) == 0
    said = capsys.readouterr().out
    command = next_command(said)
    assert command[2] == "scenes/your_own_folder.yaml"
    experiment: Any = resolve_recipe(command[2], command[3:]).experiment
    assert experiment.data.source == "scenes:YOUR_FOLDER" and experiment.model.in_channels == 0
    features = experiment.data.features or ["height", "colors"]
    net = experiment.network(7, features)
    _, written = read_weights("lifted.safetensors")
    same = {n for n, t in net.state_dict().items() if n in written and torch.equal(t, written[n])}
    backbone = {n for n, _ in net.named_parameters() if net.in_backbone(n.rpartition(".")[0])}
    assert backbone and backbone <= same, "the image weights are in the network that is trained next"
    told = {r.target for r in net.report.rows if r.target}
    assert told == set(net.state_dict()) - {"mean", "std"} and "re-initialised" in said
    assert main(["predict", "lifted.safetensors", "nowhere.ply"]) == 2
    assert "one of pointlift lift is trained first" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, said",
    [
        (
            ["--network", "unet", "--head", "mlp"],
            "--head is for an inflated network, but a network of the kind unet is",
        ),
        (["--decoder", "simple"], "--decoder is for a unet, but a network of the kind inflated"),
        (
            ["--network", "range-view", "--rule", "mean"],
            "--rule is for inflated networks, but a network of the kind range-view",
        ),
    ],
)
def test_options_of_another_network(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lift", "fractal_resnet", "--out", str(tmp_path / "x"), *words]) == 2
    assert said in capsys.readouterr().err


def test_scheme_and_rename_are_about_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["lift", "fractal_resnet", "--out", str(tmp_path / "x"), "--scheme", "order"]) == 2
    assert (
        "--scheme and --rename are about a file of weights: name it with --weights."
        in capsys.readouterr().err
    )


def test_lift_by_order_and_by_map(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from pointlift.models import image_network

    state = image_network("fractal_resnet").state_dict()
    torch.save(
        {f"t{i}.{n.rpartition('.')[2]}": t for i, (n, t) in enumerate(state.items())}, tmp_path / "w.pth"
    )
    rules = "".join(f"t{i}.{n.rpartition('.')[2]}: {n}\n" for i, n in enumerate(state))
    (tmp_path / "map.yaml").write_text(rules)
    for more in (["--scheme", "order"], ["--rename", str(tmp_path / "map.yaml")]):
        out = tmp_path / "out.safetensors"
        with pl.backend("reference"):
            assert (
                main(
                    ["lift", "fractal_resnet", "--weights", str(tmp_path / "w.pth"), *more, "--out", str(out)]
                )
                == 0
            )
        assert "  t0.weight -> conv1.weight" in capsys.readouterr().out
        assert out.is_file()
