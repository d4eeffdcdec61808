"""One format for all files of weights, beside the three that were there before it."""

from __future__ import annotations

import hashlib
import json
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

import pointlift as pl
from pointlift.methods.pointcmt.generator import (
    GeneratorError,
    PointGenerator,
    load_generator,
    save_generator,
)
from pointlift.teachers.files import TeacherConfig, open_teacher, save_teacher, teacher_identity
from pointlift.teachers.statistics import trained_statistics
from pointlift.teachers.view_network import SimpleViewBackbone, ViewNetwork
from pointlift.weights.archive import KEY, digest, read_archive, write_archive
from pointlift.weights.checkpoints import CheckpointError, load, read_metadata, save_checkpoint, task_of
from pointlift.weights.image_weights import load_image_weights, save_image_model

TENSORS = {"b": torch.arange(6).reshape(2, 3), "a": torch.ones(2, dtype=torch.float16)}


def checkpoint_config(net: Any) -> dict[str, Any]:
    return {
        "image_model": "linear-network", "inflate": net.arguments, "num_classes": 3, "classes": list("abc"),
        "in_channels": 3, "features": "xyz", "voxel_size": 0.2, "up_axis": "y", "regime": "all",
    }  # fmt: skip


def literal_digest(tensors: dict[str, Tensor]) -> str:
    """The checksum as checkpoints have had it from the first."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        t = tensors[name]
        total.update(f"{name} {t.dtype} {tuple(t.shape)}".encode())
        total.update(t.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


@pytest.mark.parametrize("kind", ["network", "teacher", "generator", "image"])
def test_what_was_written_is_read(tmp_path: Path, kind: Any) -> None:
    path = write_archive(
        tmp_path / "w.safetensors", kind, {"classes": ["a"], "nested": {"x": [1, None]}}, TENSORS
    )
    found = read_archive(path)
    assert found.kind == kind and found.intact()
    assert found.content == {"classes": ["a"], "nested": {"x": [1, None]}, "sha256": literal_digest(TENSORS)}
    assert found.tensors.keys() == TENSORS.keys() and all(
        torch.equal(TENSORS[n], t) for n, t in found.tensors.items()
    )
    head = read_archive(path, weights=False)
    assert head.content == found.content and not head.tensors
    found.tensors["a"][0] = 2
    assert not found.intact() and digest(found.tensors) != digest(TENSORS)


def test_foreign_and_damaged_files(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "foreign.safetensors", {"format": "pt"})
    foreign = read_archive(tmp_path / "foreign.safetensors")
    assert foreign.kind is None and foreign.content == {"format": "pt"} and foreign.intact()
    save_file(TENSORS, tmp_path / "broken.safetensors", {KEY: "{not json"})
    assert read_archive(tmp_path / "broken.safetensors").content is None
    (tmp_path / "text").write_text("nothing")
    with pytest.raises(SafetensorError):
        read_archive(tmp_path / "text")
    with pytest.raises(ValueError, match="must be plain JSON without NaN"):
        write_archive(tmp_path / "x.safetensors", "image", {"value": float("nan")}, TENSORS)
    assert not (tmp_path / "x.safetensors").exists()


def test_checkpoints_of_before_are_loaded(tmp_path: Path) -> None:
    net = pl.create_model("linear-network", num_classes=3, channels=4).eval()
    new = save_checkpoint(tmp_path / "new.safetensors", net, {**checkpoint_config(net), "task": "classify"})
    tensors = read_archive(new).tensors
    stored = {
        **checkpoint_config(net),
        "format": 2,
        "pointlift": metadata.version("pointlift"),
        "sha256": literal_digest(tensors),
    }
    save_file(tensors, tmp_path / "old.safetensors", {"pointlift": json.dumps(stored)})
    old: Any = load(tmp_path / "old.safetensors")
    assert (
        all(torch.equal(t, old.state_dict()[n]) for n, t in net.state_dict().items())
        and old.voxel_size == 0.2
    )
    assert read_metadata(tmp_path / "old.safetensors") == stored
    assert read_metadata(new) == {**stored, "task": "classify"}
    tensors["head.0.bias"][0] += 1
    save_file(tensors, tmp_path / "damaged.safetensors", {"pointlift": json.dumps(stored)})
    with pytest.raises(CheckpointError, match="is damaged: the checksum of its weights is wrong"):
        load(tmp_path / "damaged.safetensors")


def test_the_task_of_a_checkpoint() -> None:
    assert task_of({"task": "parts"}) == task_of({"parts": [], "categories": {}}) == "parts"
    assert (
        task_of({"task": "classify", "parts": [], "categories": {}})
        == task_of({"parts": []})
        == task_of({})
        == "classify"
    )


def test_generators_of_before_are_loaded(tmp_path: Path) -> None:
    generator = PointGenerator(12, 5, hidden=[4, 6], seed=4)
    text = json.dumps({"arguments": generator.arguments, "teacher_sha256": "abc"})
    save_file(dict(generator.state_dict()), tmp_path / "old.safetensors", {"pointlift_generator": text})
    save_generator(tmp_path / "new.safetensors", generator, {"teacher_sha256": "abc"})
    x = torch.rand(2, 12)
    for name in ("old", "new"):
        again, facts = load_generator(tmp_path / f"{name}.safetensors")
        assert facts == {"teacher_sha256": "abc"} and torch.equal(again(x), generator(x))
        with pytest.raises(CheckpointError, match="is a point generator, which sees features"):
            load(tmp_path / f"{name}.safetensors")
    found = read_archive(tmp_path / "new.safetensors")
    content = json.dumps({**(found.content or {}), "kind": "generator"})
    found.tensors["layers.0.bias"][0] += 1
    save_file(found.tensors, tmp_path / "damaged.safetensors", {KEY: content})
    with pytest.raises(GeneratorError, match="is damaged: the checksum of its weights is wrong"):
        load_generator(tmp_path / "damaged.safetensors")
    with pytest.raises(
        GeneratorError, match=r"is no point generator: use the model\.safetensors that stage II wrote"
    ):
        load_generator(write_archive(tmp_path / "image.safetensors", "image", {}, TENSORS))


def test_teachers_of_before_are_loaded(tmp_path: Path) -> None:
    config = TeacherConfig("simpleview", {"width": 4})
    net = ViewNetwork(SimpleViewBackbone(width=4), 3, image_size=32, classifier="none").eval()
    total = hashlib.sha256(json.dumps(net.arguments, sort_keys=True).encode())
    for name, tensor in sorted(net.state_dict().items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    assert teacher_identity(net) == total.hexdigest()
    content = {
        "image_model": "simpleview", "image_options": {"width": 4}, "arguments": net.arguments,
        "classes": ["a", "b", "c"], "views": {}, "identity": teacher_identity(net), "protocol": {},
    }  # fmt: skip
    save_file(
        dict(net.state_dict()), tmp_path / "old.safetensors", {"pointlift.view_network": json.dumps(content)}
    )
    save_teacher(tmp_path / "new.safetensors", net, config, ["a", "b", "c"], {}, {})
    for name in ("old", "new"):
        again, found = open_teacher(tmp_path / f"{name}.safetensors")
        assert all(torch.equal(t, again.state_dict()[n]) for n, t in net.state_dict().items())
        assert {k: found[k] for k in content} == content
        with pytest.raises(CheckpointError, match="is an image network, which sees pictures"):
            load(tmp_path / f"{name}.safetensors")
        report = load_image_weights(tmp_path / f"{name}.safetensors", SimpleViewBackbone(width=4))
        assert report.scheme == "view-teacher"


def test_image_networks_of_before_are_loaded(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    facts = {"mean": [0.1, 0.2, 0.3], "std": [0.5]}
    save_file(
        dict(net.state_dict()), tmp_path / "old.safetensors", {k: json.dumps(v) for k, v in facts.items()}
    )
    save_image_model(net, tmp_path / "new.safetensors", facts, half=False)
    for name in ("old", "new"):
        assert trained_statistics(tmp_path / f"{name}.safetensors") == ([0.1, 0.2, 0.3], [0.5] * 3)
        other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
        assert not load_image_weights(tmp_path / f"{name}.safetensors", other).missing
        assert torch.equal(other[0].weight, net[0].weight)
        with pytest.raises(CheckpointError, match="is safetensors but not a pointlift checkpoint"):
            load(tmp_path / f"{name}.safetensors")
    save_image_model(net, tmp_path / "half.safetensors", {})
    assert read_archive(tmp_path / "half.safetensors").tensors["0.weight"].dtype == torch.float16
