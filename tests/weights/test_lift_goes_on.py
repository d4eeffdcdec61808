"""The command that `lift` prints trains the network that it wrote, from the file that it wrote."""

from __future__ import annotations

import shlex
from pathlib import Path

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
