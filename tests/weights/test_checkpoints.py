"""Checkpoints: what is saved comes back exactly, and every way a file can be wrong has its own sentence."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import pointlift as pl
from pointlift.models import image_network
from pointlift.weights import checkpoints
from pointlift.weights.archive import KEY
from pointlift.weights.checkpoints import CheckpointError, load, read_metadata, save_checkpoint
from pointlift.weights.image_weights import read_tensors


def image_model() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    )  # fmt: skip


def config(net: Any, image_model: str | None, **changes: Any) -> dict[str, Any]:
    base = {
        "image_model": image_model,
        "inflate": net.arguments,
        "num_classes": 4,
        "in_channels": 3,
        "classes": ["a", "b", "c", "d"],
    }
    return {
        **base,
        "voxel_size": 0.05,
        "features": "xyz",
        "up_axis": "y",
        "regime": "io+bn",
        "protocol": {"seed": 3},
        **changes,
    }


@pytest.fixture
def net() -> Any:
    torch.manual_seed(0)
    made = pl.inflate(image_model(), num_classes=4)
    pl.set_finetune(made, "io+bn")
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return made


@pytest.fixture
def saved(net: Any, tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "model.safetensors", net, config(net, None))


def voxels() -> pl.SparseTensor:
    xyz = torch.rand(200, 3, generator=torch.Generator().manual_seed(1))
    return pl.voxelize(pl.PointBatch.from_list([xyz[:120], xyz[120:]]), 0.1, origin="cloud")


def change_metadata(path: Path, **changes: Any) -> None:
    content = {**read_metadata(path), **changes}
    save_file(load_file(path), path, {KEY: json.dumps({k: v for k, v in content.items() if v != "remove"})})


def test_round_trip_with_the_users_image_model(net: Any, saved: Path) -> None:
    back = load(saved, image_model=image_model())
    assert not back.training
    with torch.no_grad():
        assert torch.equal(back(voxels()), net.eval()(voxels()))
    assert back.metadata["classes"] == ["a", "b", "c", "d"] and back.metadata["protocol"] == {"seed": 3}
    assert back.regime == "io+bn"
    assert [n for n, p in back.named_parameters() if p.requires_grad] == [
        n for n, p in net.named_parameters() if p.requires_grad
    ]
    assert read_metadata(saved) == back.metadata


@pytest.mark.parametrize("rule", ["repeat", "learned-shared", "matrix"])
def test_round_trip_by_name(tmp_path: Path, rule: str) -> None:
    transform = torch.randn(9, 27, generator=torch.Generator().manual_seed(0))
    net: Any = pl.create_model(
        "fractal_resnet", num_classes=4, rule=transform if rule == "matrix" else rule, head="linear", seed=5
    )
    pl.set_finetune(net, "all")
    path = save_checkpoint(tmp_path / "a.safetensors", net, config(net, "fractal_resnet", regime="all"))
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    back = pl.load(path)
    assert torch.equal(torch.rand(3), expected), "loading must not disturb the caller's random numbers"
    with torch.no_grad():
        assert torch.equal(back(voxels()), net.eval()(voxels()))


def test_round_trip_of_the_network_without_backbone(tmp_path: Path) -> None:
    net: Any = pl.create_model("linear-network", num_classes=4, channels=16)
    path = save_checkpoint(tmp_path / "a.safetensors", net, config(net, "linear-network", regime="all"))
    assert torch.equal(load(path)(voxels()), net.eval()(voxels()))
    with pytest.raises(CheckpointError, match="not made from an image model"):
        load(path, image_model=image_model())


def test_saving_leaves_the_network_as_it_is(net: Any, tmp_path: Path) -> None:
    net.train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    save_checkpoint(tmp_path / "a.safetensors", net, config(net, None))
    assert net.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_a_full_disk_keeps_the_old_file(net: Any, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(saved, net, config(net, None, voxel_size=1.0))
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == ["model.safetensors"]


def test_own_image_model_is_needed(net: Any, saved: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"an image model made in Python.*pass image_model="):
        load(saved)
    marker = tmp_path / "executed"
    (tmp_path / "net.py").write_text(f"open({str(marker)!r}, 'w')\n")
    path = save_checkpoint(tmp_path / "b.safetensors", net, config(net, f"{tmp_path}/net.py:build"))
    with pytest.raises(
        CheckpointError,
        match=r"from the image model .*net\.py:build, and a checkpoint never runs code: pass image_model=",
    ):
        load(path)
    assert not marker.exists()


def test_another_architecture(saved: Path) -> None:
    wider = image_model()
    wider[3], wider[4], wider[8] = nn.Conv2d(8, 12, 3, 1, 1), nn.BatchNorm2d(12), nn.Linear(12, 10)
    with pytest.raises(CheckpointError, match="another architecture") as error:
        load(saved, image_model=wider)
    assert "1 tensors are missing (first: backbone.3.bias)" in str(error.value)
    assert "have another shape (first: backbone.3.weight)" in str(error.value)
    deeper = nn.Sequential(*image_model()[:6], nn.Conv2d(8, 8, 3, 1, 1, bias=False), *image_model()[6:])
    with pytest.raises(
        CheckpointError, match=r"1 tensors are missing \(first: backbone\.6\.weight\), .* of .* match"
    ):
        load(saved, image_model=deeper)
    shallower = nn.Sequential(*image_model()[:3], *image_model()[6:])
    with pytest.raises(CheckpointError, match=r"6 tensors are unexpected \(first: backbone\.3\.weight\)"):
        load(saved, image_model=shallower)


def test_missing_empty_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"No checkpoint at .*nothing"):
        load(tmp_path / "nothing.safetensors")
    with pytest.raises(CheckpointError, match="is a folder"):
        load(tmp_path)
    (tmp_path / "empty").touch()
    with pytest.raises(CheckpointError, match="is empty"):
        load(tmp_path / "empty")
    (tmp_path / "text").write_text("ply\nformat ascii 1.0\n")
    with pytest.raises(CheckpointError, match="is not a pointlift checkpoint"):
        load(tmp_path / "text")
    for zipped in (True, False):
        torch.save({"a": torch.ones(1)}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
        with pytest.raises(CheckpointError, match="torch pickle, not a pointlift checkpoint"):
            load(tmp_path / "a.pth")
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="safetensors but not a pointlift checkpoint"):
        load(tmp_path / "a.safetensors")


@pytest.mark.parametrize("keep", [5, 200, 0.3, 0.9, -1])
def test_truncated(saved: Path, keep: float) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[: keep if isinstance(keep, int) else int(len(whole) * keep)])
    with pytest.raises(CheckpointError, match=r"is truncated|is not a pointlift checkpoint") as error:
        load(saved, image_model=image_model())
    assert "\n" not in str(error.value)


def test_one_flipped_bit_is_noticed(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[-100] ^= 1
    saved.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"is damaged: the checksum of its weights is wrong"):
        load(saved, image_model=image_model())
    load(saved, image_model=image_model(), verify=False)


def test_an_installation_that_computes_something_else_is_noticed(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = checkpoints._logits
    monkeypatch.setattr(checkpoints, "_logits", lambda net, *golden: honest(net, *golden) * 1.01)
    with pytest.raises(
        CheckpointError,
        match=r"weights are intact, but this installation computes other logits .*largest difference",
    ):
        load(saved, image_model=image_model())
    monkeypatch.setattr(checkpoints, "_logits", lambda net, *golden: honest(net, *golden) * torch.nan)
    with pytest.raises(CheckpointError, match="computes other logits"):
        load(saved, image_model=image_model())
    load(saved, image_model=image_model(), verify=False)


def test_newer_format_and_damaged_metadata(saved: Path) -> None:
    whole = saved.read_bytes()
    change_metadata(saved, format=3, pointlift="9.0")
    with pytest.raises(
        CheckpointError, match=r"format 3, written by pointlift 9\.0, but this version reads formats up to 2"
    ):
        load(saved)
    saved.write_bytes(whole)
    change_metadata(saved, voxel_size="remove")
    with pytest.raises(CheckpointError, match="lack voxel_size"):
        load(saved)
    save_file(load_file(saved), saved, {KEY: "{not json"})
    with pytest.raises(CheckpointError, match="metadata of this pointlift checkpoint are damaged"):
        load(saved)


def test_files_of_the_first_format_are_read(tmp_path: Path) -> None:
    """They have neither the network's kind nor options of the image model:
    format 1 knew inflated networks and the linear one only.
    """
    made: Any = pl.inflate(image_network("fractal_resnet"), num_classes=4)
    path = save_checkpoint(
        tmp_path / "old.safetensors",
        made,
        config(made, "fractal_resnet", network="inflated", image_options=None),
    )
    change_metadata(path, format=1, network="remove", image_options="remove")
    back = load(path)
    assert read_metadata(path)["format"] == 1 and "network" not in back.metadata
    with torch.no_grad():
        assert torch.equal(back(voxels()), made.eval()(voxels()))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"network": "point-vit"}, "no argument 'rule'"),
        ({"network": "foo"}, "network is 'foo'"),
        ({"image_options": {"nonsense": 3}}, "nonsense=3"),
        ({"inflate": {"nonsense": 3}}, "no argument 'nonsense'"),
        ({"inflate": {"rule": [[1.0, "a"]]}}, "no network can be made"),
        ({"regime": "foo"}, "regime must be one of"),
        ({"image_model": "fractal_resnt"}, "Did you mean fractal_resnet"),
    ],
)
def test_metadata_of_no_network_name_the_file(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    made: Any = pl.inflate(image_network("fractal_resnet"), num_classes=4)
    path = save_checkpoint(tmp_path / "odd.safetensors", made, config(made, "fractal_resnet"))
    change_metadata(path, **change)
    with pytest.raises(CheckpointError) as caught:
        load(path)
    assert (
        str(caught.value).startswith(f"{path}: ")
        and said in str(caught.value)
        and "\n" not in str(caught.value)
    )


@pytest.mark.parametrize("start", [b"\x80", b"PK"])
def test_a_header_whose_length_looks_like_a_pickle(net: Any, tmp_path: Path, start: bytes) -> None:
    """safetensors begins with the length of its header, which can be any number:
    0x80 and "PK" begin pickles.
    """
    path = save_checkpoint(tmp_path / "a", net, config(net, None))
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    wanted = next(n for n in range(length, 2**20) if n.to_bytes(8, "little").startswith(start))
    path.write_bytes(
        wanted.to_bytes(8, "little") + whole[8 : 8 + length] + b" " * (wanted - length) + whole[8 + length :]
    )
    assert load(path, image_model=image_model())
    assert read_tensors(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": ["a"]}, "1 class names for num_classes 4"),
        ({"classes": "abcd"}, "no class names for num_classes 4"),
        ({"voxel_size": -1}, "voxel_size -1, a positive number"),
        ({"voxel_size": "0.05"}, "voxel_size '0.05', a positive number"),
        ({"up_axis": "w"}, "up_axis 'w', x, y or z"),
        ({"inflate": None}, "inflate None, a mapping"),
    ],
)
def test_values_that_nothing_can_be_done_with(saved: Path, changes: dict[str, Any], words: str) -> None:
    change_metadata(saved, **changes)
    with pytest.raises(
        CheckpointError, match=f"metadata of this pointlift checkpoint are damaged \\({words}"
    ):
        read_metadata(saved)


def test_config_is_checked(net: Any, tmp_path: Path) -> None:
    incomplete = config(net, None)
    del incomplete["up_axis"]
    with pytest.raises(ValueError, match="missing: up_axis"):
        save_checkpoint(tmp_path / "a", net, incomplete)
    with pytest.raises(ValueError, match="4 class names for num_classes=5"):
        save_checkpoint(tmp_path / "a", net, config(net, None, num_classes=5))
    with pytest.raises(ValueError, match="plain JSON"):
        save_checkpoint(tmp_path / "a", net, config(net, None, protocol={"path": Path("x")}))
    assert os.listdir(tmp_path) == []
