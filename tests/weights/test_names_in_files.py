"""What a file names is not followed, whatever timm would make of it:
no folder, no host, no pickle and no code.
"""

from __future__ import annotations

import os
import pickle
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

import pointlift as pl
from pointlift.models.config import ModelConfig
from pointlift.models.factory import OPENING, image_network, leads_elsewhere
from pointlift.tasks.predictor import Predictor
from pointlift.teachers.files import TeacherConfig, build_teacher, open_teacher, save_teacher
from pointlift.weights.archive import Archive, read_archive, write_archive
from pointlift.weights.checkpoints import CheckpointError, read_metadata, save_checkpoint
from pointlift.weights.network import build_network

TINY = {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]}


class Bomb:
    """What a pickle would run."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as timm's local-dir: takes it, and code, both of which leave a mark; and no network."""
    mark, folder = tmp_path / "it-ran", tmp_path / "bait"
    folder.mkdir()
    config = '{"architecture": "resnet18", "num_classes": 4, "pretrained_cfg": {}}'
    (folder / "config.json").write_text(config)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"conv1.weight": Bomb(mark)}))
    code = f"import os\nos.mkdir({str(mark)!r})\ndef build(): pass\nclass Task: pass\n"
    (folder / "net.py").write_text(code)

    def refused(*args: Any, **options: Any) -> None:
        mark.mkdir(exist_ok=True)
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.chdir(tmp_path)
    return folder


def names(folder: Path) -> list[str]:
    return [
        f"local-dir:{folder}",
        f"LOCAL-DIR:{folder}",
        "hf-hub:timm/resnet18.a1_in1k",
        "hf_hub:timm/resnet18.a1_in1k",
        "hf_hub/timm/resnet18",
        "resnet18.hf-hub:timm/resnet18",
        f"resnet18.local-dir:{folder}",
        f"resnet18./../{folder}",
        "timm/resnet18",
        "https://example.org/resnet18",
        f"{folder}/resnet18",
        f"torchvision:local-dir:{folder}",
        f"{folder}/net.py:build",
        "bait/net.py:build",
        "os:mkdir",
        "pointlift.runs.fit:fit",
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """The checkpoint of a small inflated network."""
    net = pl.create_model("resnet18", num_classes=2, image_options=TINY)
    config = {
        "image_model": "resnet18", "image_options": TINY, "network": "inflated", "inflate": net.arguments,
        "num_classes": 2, "classes": ["a", "b"], "in_channels": 3, "features": "xyz", "voxel_size": 0.1,
        "up_axis": "y", "regime": "all",
    }  # fmt: skip
    with pl.backend("reference"):
        path = save_checkpoint(tmp_path_factory.mktemp("written") / "net.safetensors", net, config)
    return read_archive(path)


def changed(written: Archive, path: Path, **changes: Any) -> Path:
    """The same file whose metadata say something else."""
    content = {k: v for k, v in (written.content or {}).items() if k != "sha256"}
    return write_archive(path, written.kind, content | changes, written.tensors)  # type: ignore[arg-type]


def test_names_in_a_checkpoint(trap: Path, tmp_path: Path, written: Archive) -> None:
    for i, name in enumerate(names(trap)):
        path = changed(written, tmp_path / f"{i}.safetensors", image_model=name)
        for call in (pl.load, Predictor):
            with pytest.raises(CheckpointError, match=rf"^{path}[: ].*image_model=\.\.\. to load it\.$"):
                call(path)  # type: ignore[operator]
        assert read_metadata(path)["image_model"] == name
    assert not (tmp_path / "it-ran").exists()


def test_what_a_checkpoint_asks_for_beside_the_name(trap: Path, tmp_path: Path, written: Archive) -> None:
    """Options with which timm opens files or fetches some, and arguments that bring another image model."""
    pickled = str(trap / "pytorch_model.bin")
    values = {"checkpoint_path": pickled, "pretrained_cfg": {"file": pickled}, "weights": pickled}
    arguments = (written.content or {})["inflate"]
    tried: list[dict[str, Any]] = [
        {"image_options": TINY | {option: values.get(option, True)}} for option in OPENING
    ]
    tried += [{"image_model": "torchvision:resnet18", "image_options": {"weights": "DEFAULT"}}]
    tried += [
        {"inflate": arguments | {key: value}}
        for key, value in (
            ("pretrained", True),
            ("image_model", f"local-dir:{trap}"),
            ("image_options", {"checkpoint_path": pickled}),
            ("name", f"local-dir:{trap}"),
        )
    ]
    tried += [{"network": f"{trap}/net.py:Task"}, {"image_model": ["resnet18"]}]
    for i, changes in enumerate(tried):
        path = changed(written, tmp_path / f"{i}.safetensors", **changes)
        with pytest.raises(CheckpointError, match=rf"^{path}: "):
            pl.load(path)
    assert not (tmp_path / "it-ran").exists()


def test_a_task_of_code_in_a_checkpoint(trap: Path, tmp_path: Path, written: Archive) -> None:
    path = changed(written, tmp_path / "task.safetensors", task=f"{trap}/net.py:Task")
    sentence = "is of the task .*, this version of pointlift has"
    with pl.backend("reference"), pytest.raises(ValueError, match=sentence):
        _ = Predictor(path).task
    assert not (tmp_path / "it-ran").exists()


def test_options_of_a_checkpoint_beside_the_users_image_model(
    trap: Path, tmp_path: Path, written: Archive
) -> None:
    opening = {"checkpoint_path": str(trap / "pytorch_model.bin")}
    path = changed(written, tmp_path / "c.safetensors", image_options=opening)
    with pytest.raises(ValueError, match="resnet18 is given the option checkpoint_path, with which files"):
        Predictor(path, image_model="resnet18")
    assert not (tmp_path / "it-ran").exists()


def test_names_in_a_teacher(trap: Path, tmp_path: Path) -> None:
    config = TeacherConfig("resnet18", TINY, pretrained=False, width=8)
    net = build_teacher(config, 2, 32, 0)
    save_teacher(tmp_path / "teacher.safetensors", net, config, ["a", "b"], {}, {})
    whole = read_archive(tmp_path / "teacher.safetensors")
    assert open_teacher(tmp_path / "teacher.safetensors")[1]["classes"] == ["a", "b"]
    content = {k: v for k, v in (whole.content or {}).items() if k != "sha256"}
    tried: list[dict[str, Any]] = [{"image_model": name} for name in names(trap)]
    tried += [{"image_options": TINY | {"checkpoint_path": str(trap / "pytorch_model.bin")}}]
    for i, changes in enumerate(tried):
        path = write_archive(tmp_path / f"{i}.safetensors", "teacher", content | changes, whole.tensors)
        with pytest.raises(CheckpointError, match=rf"^{path}"):
            open_teacher(path)
    assert not (tmp_path / "it-ran").exists()


def test_schemes_in_a_recipe(trap: Path, tmp_path: Path) -> None:
    """A recipe is the user's own: its code runs (file.py:function), but nothing is followed elsewhere."""
    for name in names(trap)[:-4]:
        with pytest.raises(ValueError, match=r"no (model|image classifier) named"):
            build_network(ModelConfig(name, pretrained=True), 2, 0)
    assert not (tmp_path / "it-ran").exists()


def test_every_name_of_timm_is_taken() -> None:
    assert [n for n in (*timm.list_models(), *timm.list_pretrained()) if leads_elsewhere(n)] == []
    net = image_network("resnet18.a1_in1k", options=TINY)
    assert isinstance(net, nn.Module)


def test_nothing_unpickles_more_than_tensors() -> None:
    """Every torch.load of the package is the restricted one, and numpy's pickles are never read."""
    source = Path(sys.modules["pointlift"].__file__ or "").parent
    for file in source.rglob("*.py"):
        for line in file.read_text(encoding="utf-8").splitlines():
            if "torch.load(" in line:
                assert "weights_only=True" in line, f"{file.name}: {line}"
            assert "allow_pickle=True" not in line, f"{file.name}: {line}"  # False is numpy's default
            words = ("pickle.load(", "pickle.loads(", "Unpickler(", "yaml.unsafe_load(")
            assert not any(word in line for word in words), f"{file.name}: {line}"


def test_a_pickle_instead_of_a_checkpoint(tmp_path: Path) -> None:
    torch.save({"net": Bomb(tmp_path / "it-ran")}, tmp_path / "model.safetensors")
    for read in (pl.load, open_teacher):
        with pytest.raises(CheckpointError, match=r"torch pickle|no safetensors file"):
            read(tmp_path / "model.safetensors")  # type: ignore[operator]
    assert not (tmp_path / "it-ran").exists()
