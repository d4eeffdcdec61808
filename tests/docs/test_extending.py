"""docs/extending.md runs as it stands: each of its files extends pointlift without touching another file."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import pointlift as pl
from pointlift.commands.main import main
from pointlift.data.config import DataConfig
from pointlift.data.errors import DataError
from pointlift.data.sources import SOURCES
from pointlift.data.sources.open import describe_source
from pointlift.methods import METHODS
from pointlift.methods.image2point import Image2Point
from pointlift.methods.optim import OptimConfig
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.config import ModelConfig
from pointlift.models.factory import POINT_NETWORKS
from pointlift.ops.backend import BackendError, choose
from pointlift.tasks import TASKS
from pointlift.weights.checkpoints import read_metadata, save_checkpoint

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = {  # the first line of a block is the name of its file
    match[1]: match[2]
    for match in re.finditer(r"```(?:python|yaml)\n# (\w+\.\w+)\n(.*?)```", PAGE, re.DOTALL)
}
QUIET = TrainerConfig(accelerator="cpu", enable_progress_bar=False)
SHAPES = DataConfig(
    classes=["chair", "mug", "table"],
    train_per_class=4,
    test_per_class=2,
    n_points=48,
    voxel_size=0.3,
    batch_size=4,
)
TINY = {"widths": [8, 16]}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the user's, in which the page's files are, and the commands are called."""
    for name, content in FILES.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # stands for the package, where a file is one of ours
    return tmp_path


@pytest.fixture
def stacks(files: Path) -> Path:
    """Spheres and cubes with an intensity, as stacks.py reads them."""
    folder, rng = files / "clouds", np.random.default_rng(0)
    folder.mkdir()
    for split, count in (("train", 12), ("test", 6)):
        label = np.arange(count) % 2
        xyz = rng.normal(size=(count, 60, 3))
        size = np.where(
            label[:, None, None],
            np.abs(xyz).max(2, keepdims=True),
            np.linalg.norm(xyz, axis=2, keepdims=True),
        )
        stored = {
            "xyz": xyz / size,
            "label": label,
            "classes": np.array(["sphere", "cube"]),
            "intensity": rng.random((count, 60)),
        }
        np.savez(folder / f"{split}.npz", **stored)
    return folder


@pytest.fixture
def checkpoint(files: Path) -> Path:
    """A network of the page's own kind, trained for an epoch."""
    model = ModelConfig("pointnet.py:PointNet", options=TINY, pretrained=False, regime="all")
    return pl.fit(Image2Point(model, SHAPES, OptimConfig(lr=0.05, epochs=1), QUIET), files / "run").checkpoint


def fresh(name: str) -> Any:
    """A module of the page, imported now."""
    importlib.invalidate_caches()
    return importlib.import_module(name)


def test_the_page_has_a_whole_file_for_everything() -> None:
    assert list(FILES) == [
        "centre_loss.py",
        "centre_loss.yaml",
        "stacks.py",
        "pointnet.py",
        "count_neighbors.py",
        "cautious.py",
    ]
    assert all(content.startswith('"""') for name, content in FILES.items() if name.endswith(".py"))
    assert max(len(line) for content in FILES.values() for line in content.splitlines()) <= 110


# -------------------------------------------------------------------------------- a method


def recipe(files: Path, **changes: Any) -> dict[str, Any]:
    """The page's recipe, as small as can be."""
    data = {
        "classes": SHAPES.classes,
        "train_per_class": 4,
        "test_per_class": 2,
        "n_points": 48,
        "voxel_size": 0.3,
        "batch_size": 4,
    }
    content = yaml.safe_load(FILES["centre_loss.yaml"])
    content["data"].update(data)
    small = {
        "model": {
            "image_model": "pointnet.py:PointNet",
            "options": TINY,
            "pretrained": False,
            "regime": "all",
        },
        "optim": {"lr": 0.05, "epochs": 2},
        "trainer": {"accelerator": "cpu", "enable_progress_bar": False, "deterministic": True},
    }
    return {**content, **small, **changes}


class StopError(Exception):
    """Ends a run in the middle."""


def test_a_method_trains_and_resumes(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (files / "centre_loss.yaml").write_text(yaml.safe_dump(recipe(files)))
    whole = pl.fit("centre_loss.yaml", "whole")
    assert (
        yaml.safe_load((files / "whole" / "recipe.yaml").read_text())["method"] == "centre_loss.py:CentreLoss"
    )
    assert whole.facts == {} and whole.best["epoch"] in (0, 1) and 0 <= whole.metrics["val_accuracy"] <= 1
    module, losses = fresh("pointlift_user_centre_loss"), 0  # what the recipe's file was imported as

    def stop(self: Any, batch: Any) -> Any:
        nonlocal losses
        if (losses := losses + 1) > 4:
            raise StopError
        return whole_losses(self, batch)

    whole_losses = module.CentredClassification.losses
    with monkeypatch.context() as patched:
        patched.setattr(module.CentredClassification, "losses", stop)
        with pytest.raises(StopError):
            pl.fit("centre_loss.yaml", "parts")
    assert (files / "parts" / "last.ckpt").is_file() and not (files / "parts" / "result.json").is_file()
    resumed = pl.fit("centre_loss.yaml", "parts", resume=True)
    assert resumed.metrics == whole.metrics
    own = fresh("pointnet").PointNet
    ours, theirs = (pl.load(run.checkpoint, own()).state_dict() for run in (whole, resumed))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_methods_settings_are_keys_like_any_other(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "centre_loss.yaml").write_text(yaml.safe_dump(recipe(files)))
    assert main(["fit", "centre_loss.yaml", "--centre.weigth", "1", "--out", "no"]) != 0
    assert "did you mean --centre.weight" in capsys.readouterr().err
    assert main(["fit", "centre_loss.yaml", "--centre.weight", "-1", "--out", "no"]) != 0
    assert "centre: weight is -1.0, expected 0 or more" in capsys.readouterr().err
    assert not (files / "no").exists()


def test_a_method_of_the_package_is_one_line(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "centre_loss", "centre_loss:CentreLoss")
    content = recipe(files, method="centre_loss", centre={"weight": 0.0})
    (files / "ours.yaml").write_text(yaml.safe_dump(content))
    ours = pl.fit("ours.yaml", "ours")
    module = fresh("centre_loss")
    assert pl.fit(module.CentreLoss(**_groups(content)), "dataclass").metrics == ours.metrics
    groups = {name: value for name, value in _groups(content).items() if name != "centre"}
    usual = pl.fit(Image2Point(**groups), "usual")
    assert usual.metrics == ours.metrics, "without weight nothing changes"


def _groups(content: dict[str, Any]) -> dict[str, Any]:
    kinds = {"model": ModelConfig, "data": DataConfig, "optim": OptimConfig, "trainer": TrainerConfig}
    kinds["centre"] = fresh("centre_loss").CentreConfig
    return {name: kinds[name](**content[name]) for name in kinds}


# -------------------------------------------------------------------------------- a dataset


def test_a_dataset_is_opened_checked_trained_on_and_judged(
    stacks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = "stacks.py:STACKS:clouds"
    dataset = pl.open_dataset(source, "test", n_points=50)
    assert (
        len(dataset) == 6
        and dataset.classes == ("sphere", "cube")
        and len(dataset[0]) == 50
        and dataset.up_axis == "z"
    )
    assert dataset[0].features is None and pl.open_dataset(f"{source}?intensity=true", "test")[
        0
    ].features.shape == (60, 1)
    assert main(["data", "check", source]) == 0
    assert "12 clouds, 2 classes, 6 to 6 per class" in capsys.readouterr().out
    model = ModelConfig("pointnet.py:PointNet", options=TINY, pretrained=False, regime="all", in_channels=4)
    data = DataConfig(source, n_points=40, features="xyz+own", batch_size=4, voxel_size=0.3)
    result = pl.fit(Image2Point(model, data, OptimConfig(lr=0.05, epochs=1), QUIET), "run")
    network = ["--image_model", "pointnet.py:PointNet"]
    assert main(["evaluate", str(result.checkpoint), "--data", source, "--out", "judged", *network]) == 0
    assert "sphere" in capsys.readouterr().out and (stacks.parent / "judged" / "metrics.json").is_file()


def test_a_dataset_of_the_package_is_one_line(stacks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "stacks", "stacks:STACKS")
    named, found = pl.open_dataset("stacks:clouds", "train"), pl.open_dataset("clouds", "train")
    assert describe_source("clouds") == "stacks" and np.array_equal(named[3].xyz, found[3].xyz)


def test_what_is_wrong_with_a_dataset_is_said(stacks: Path) -> None:
    with pytest.raises(DataError, match=r"val\.npz: no such file, val clouds are expected"):
        pl.open_dataset("stacks.py:STACKS:clouds", "val")
    with pytest.raises(DataError, match="did you mean 'intensity'"):
        pl.open_dataset("stacks.py:STACKS:clouds?intensty=true", "test")


# -------------------------------------------------------------------------------- a network


def test_a_network_trains_and_its_checkpoint_loads(checkpoint: Path) -> None:
    own = fresh("pointnet").PointNet
    net = pl.load(checkpoint, own())
    assert net.arguments == {"num_classes": 3, "in_channels": 3, "widths": [8, 16]}
    chair = pl.open_dataset("procedural:shapes?classes=chair&test=1", "test")[0]
    predictor = pl.Predictor(checkpoint, image_model="pointnet.py:PointNet")
    found = predictor(chair.xyz)
    assert found.classes == ("chair", "mug", "table") and predictor.embed(chair.xyz).shape == (16,)
    with pytest.raises(ValueError, match="a checkpoint never runs code"):
        pl.load(checkpoint)


def test_a_network_has_the_verbs_of_all_networks(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = pl.create_model("pointnet.py:PointNet", num_classes=5, in_channels=4, **TINY).eval()
    xyz = torch.rand(50, 3, generator=torch.Generator().manual_seed(0))
    cloud = pl.PointBatch(xyz, torch.cat([xyz, xyz[:, :1]], 1), torch.tensor([0, 20, 50]))
    features, (points,) = net.forward_intermediates(cloud)
    assert net(cloud).shape == (2, 5) and features.shape == (2, 16) and points.features.shape == (50, 16)
    turned = pl.PointBatch(cloud.xyz.flip(0), cloud.features.flip(0), torch.tensor([0, 30, 50]))
    assert torch.allclose(net(turned).flip(0), net(cloud), atol=1e-6), (
        "the order of points and clouds plays no part"
    )
    assert pl.set_finetune(net, "io").trainable < sum(p.numel() for p in net.parameters())
    net.reset_classifier(7)
    assert net(cloud).shape == (2, 7)
    monkeypatch.setitem(POINT_NETWORKS, "pointnet", "pointnet:PointNet")
    assert (
        "pointnet" in pl.list_models("pointn*")
        and type(pl.create_model("pointnet", num_classes=5)).__name__ == "PointNet"
    )


def test_a_network_of_the_package_needs_no_file_to_load(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POINT_NETWORKS, "pointnet", "pointnet:PointNet")
    model = ModelConfig("pointnet", options=TINY, pretrained=False, regime="scratch")
    result = pl.fit(Image2Point(model, SHAPES, OptimConfig(lr=0.05, epochs=1), QUIET), "run")
    assert pl.load(result.checkpoint).arguments["widths"] == [8, 16]


# -------------------------------------------------------------------------------- an operation


def test_an_operation_agrees_with_its_reference(files: Path) -> None:
    count = fresh("count_neighbors").count_neighbors
    xyz = torch.rand(70, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    offsets = torch.tensor([0, 33, 33, 34, 70])
    found = count(xyz, offsets, 0.3)
    with pl.backend("reference"):
        assert torch.equal(count(xyz, offsets, 0.3), found)
    assert torch.equal(count(xyz, offsets, 0.3, backend="reference"), found)
    loops = [
        sum(bool((p - q).norm() <= 0.3) for q in one) for one in (xyz[:33], xyz[33:34], xyz[34:]) for p in one
    ]
    assert found.tolist() == loops and found[33] == 1
    assert count(xyz[:0], torch.tensor([0]), 0.3, backend="cpu").shape == (0,)
    with pytest.raises(ValueError, match="radius must be positive"):
        count(xyz, offsets, 0.0)


def test_the_choice_for_an_operation_of_ones_own() -> None:
    assert choose("count_neighbors", torch.device("cpu")).name == "cpu"
    assert choose("count_neighbors", torch.device("cpu"), torch.float16).name == "reference"
    on_gpu = choose("count_neighbors", torch.device("cuda"))
    assert on_gpu.name == "reference" and "no triton kernel for count_neighbors yet" in on_gpu.reason
    with pytest.raises(BackendError, match="no triton kernel"):
        choose("count_neighbors", torch.device("cuda"), wish="cuda")


# -------------------------------------------------------------------------------- a task


@pytest.mark.parametrize("entry", ["cautious.py:Cautious", "cautious:Cautious"])
def test_a_task_answers_for_its_checkpoints(
    checkpoint: Path, entry: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = fresh("pointnet").PointNet
    path = checkpoint.with_name("cautious.safetensors")
    save_checkpoint(path, pl.load(checkpoint, own()), {**read_metadata(checkpoint), "task": "cautious"})
    chair = pl.open_dataset("procedural:shapes?classes=chair&test=1", "test")[0]
    with pytest.raises(ValueError, match="is of the task 'cautious'"):
        pl.Predictor(path, "pointnet.py:PointNet")(chair.xyz)
    monkeypatch.setitem(TASKS, "cautious", entry)
    assert pl.Predictor(path, "pointnet.py:PointNet")(chair.xyz).label == "unknown"
    np.save("chair.npy", chair.xyz)
    assert main(["predict", str(path), "chair.npy", "--image_model", "pointnet.py:PointNet"]) == 0
    assert "unknown (" in capsys.readouterr().out
