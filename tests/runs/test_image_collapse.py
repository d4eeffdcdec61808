"""CDNV of an image network on its own pictures: against all features at once, resumed,
and what is refused.
"""

import json
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from coloured_net import ColouredNet, fit
from fitting import measure_image_collapse
from torch import nn

from pointlift.data.images.open import open_images
from pointlift.evaluate import cdnv
from pointlift.methods.image_collapse import (
    CollapseDataConfig,
    CollapseModelConfig,
    CollapseRunConfig,
)
from pointlift.models.images.fractal_resnet import ASSET, fractal_resnet
from pointlift.runs.folder import RunFolder, RunFolderError
from pointlift.runs.recipes import resolve_recipe
from pointlift.runs.result import RunResult
from pointlift.teachers.image_features import penultimate

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from image_writers import write_coloured

NET = f"{Path(__file__).with_name('coloured_net.py')}:four"
CPU = CollapseRunConfig(device="cpu", save_every=2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Source and weights of a network that tells colours apart."""
    root = tmp_path_factory.mktemp("collapse")
    source = f"imagefolder:{write_coloured(root / 'pictures', {'train': 9, 'val': 5})}"
    fit(source, str(root / "run"), {})
    return source, root / "run" / "model.safetensors"


def measure(
    source: str, out: Path, weights: Path | None = None, resume: bool = False, **data: Any
) -> RunResult:
    settings = {"source": source, "size": 16, "resize": 20, "batch_size": 8, **data}
    model = CollapseModelConfig(NET, weights=None if weights is None else str(weights))
    return measure_image_collapse(model, CollapseDataConfig(**settings), CPU, 1, out, resume)


def at_once(source: str, split: str, net: ColouredNet) -> float:
    """The same number from all features in memory, with torchvision's views."""
    from torchvision import transforms

    view = transforms.Compose([transforms.Resize(20), transforms.CenterCrop(16), transforms.ToTensor()])
    images = open_images(source, split)
    pixels = torch.stack([view(images.read(i)) for i in range(len(images))])
    mean, std = (
        torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1),
        torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1),
    )
    net.eval()
    net.fc = nn.Identity()  # type: ignore[assignment]
    with torch.inference_mode():
        return cdnv(net((pixels - mean) / std), images.labels).mean


def test_is_the_cdnv_of_the_penultimate_features(trained: tuple[str, Path], tmp_path: Path) -> None:
    source, weights = trained
    result = measure(source, tmp_path, weights)
    net = ColouredNet(4)
    from pointlift.weights.image_weights import load_image_weights

    load_image_weights(weights, net)
    for split in ("train", "val"):
        # float32 features of other batches: six digits
        assert result.metrics[f"cdnv_{split}"] == pytest.approx(at_once(source, split, net), rel=1e-4)
    assert result.facts["pictures"] == {"train": 36, "val": 20} and result.facts["classes_used"] == {
        "train": 4,
        "val": 4,
    }
    stored = json.loads((tmp_path / "result.json").read_text())
    assert stored["metrics"] == result.metrics and set(stored["metrics"]) == {"cdnv_train", "cdnv_val"}
    protocol = json.loads((tmp_path / "protocol.json").read_text())
    assert protocol["features"] == "input of fc" and protocol["mean"] == [0.485, 0.456, 0.406]
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 3
    untrained = measure(source, tmp_path / "random")
    # training made the classes collapse
    assert result.metrics["cdnv_val"] < 0.5 * untrained.metrics["cdnv_val"]
    assert measure(source, tmp_path, weights, resume=True) == result == RunResult.read(tmp_path)


class PowerOffError(Exception):
    pass


@pytest.mark.parametrize("writes", [1, 2, 3])
def test_a_measurement_that_broke_goes_on(
    writes: int, trained: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, weights = trained
    whole = measure(source, tmp_path / "whole", weights)
    count = 0
    writing = RunFolder.writing

    def fragile(self: RunFolder, name: str) -> Any:
        nonlocal count
        count += name == "last.ckpt"
        if count > writes:
            raise PowerOffError
        return writing(self, name)

    monkeypatch.setattr(RunFolder, "writing", fragile)
    with pytest.raises(PowerOffError):
        measure(source, tmp_path / "broken", weights)
    monkeypatch.undo()
    with pytest.raises(RunFolderError, match="already holds a run"):
        measure(source, tmp_path / "broken", weights)
    resumed = measure(source, tmp_path / "broken", weights, resume=True, num_workers=1)
    assert resumed.metrics == whole.metrics and resumed.facts == whole.facts  # bit for bit


def test_limits_and_statistics(trained: tuple[str, Path], tmp_path: Path) -> None:
    source, _ = trained
    assert measure(source, tmp_path / "few", limit_per_class=3).facts["pictures"] == {"train": 12, "val": 12}
    embedded = CollapseDataConfig(
        "procedural:fractals?categories=2&size=24&train=6&val=6", size=21, resize=None, batch_size=4
    )
    measure_image_collapse(CollapseModelConfig("fractal_resnet"), embedded, CPU, out=tmp_path / "fractals")
    file = str(resources.files("pointlift") / "assets" / ASSET)  # says nothing of statistics
    shipped = CollapseModelConfig("fractal_resnet", weights=file, weights_may_differ=["fc"])
    measure_image_collapse(shipped, embedded, CPU, out=tmp_path / "file")
    for name in ("fractals", "file"):
        protocol = json.loads((tmp_path / name / "protocol.json").read_text())
        assert (protocol["mean"], protocol["std"]) == ([0.2] * 3, [0.5] * 3)
    results = [RunResult.read(tmp_path / name) for name in ("fractals", "file")]
    assert results[0].metrics == results[1].metrics


def test_classifiers_are_found() -> None:
    assert penultimate(timm.create_model("resnet18"))[0] == "fc"
    assert penultimate(timm.create_model("convnext_atto"))[0] == "head.fc"
    assert penultimate(fractal_resnet())[0] == "fc"
    plain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    with pytest.raises(ValueError, match="no classifier was found in Sequential; name it"):
        penultimate(plain)
    assert penultimate(plain, "0")[1] is plain[0]
    with pytest.raises(ValueError, match="no module 'head'; its last ones are 0, 1"):
        penultimate(plain, "head")


def test_convolutional_classifiers_are_averaged_over_the_picture(
    tmp_path: Path, trained: tuple[str, Path]
) -> None:
    source, _ = trained
    data = CollapseDataConfig(source, size=16, resize=20, batch_size=16)
    model = CollapseModelConfig(NET, classifier="conv2")
    result = measure_image_collapse(model, data, CPU, out=tmp_path / "conv")
    assert all(np.isfinite(v) for v in result.metrics.values())


def test_what_is_refused(trained: tuple[str, Path], tmp_path: Path) -> None:
    source, _ = trained
    for arguments, words in (
        ({"size": 0}, "size is 0"),
        ({"resize": 10, "size": 16}, "resize 10"),
        ({"limit_per_class": 1}, "a single picture has no variance"),
        ({"mean": [1.0]}, "three numbers"),
        ({"std": [0.0, 1.0, 1.0]}, "above 0"),
    ):
        with pytest.raises(ValueError, match=words):
            CollapseDataConfig(**{"source": source, **arguments})
    with pytest.raises(ValueError, match="save_every is 0"):
        CollapseRunConfig(save_every=0)
    with pytest.raises(ValueError, match="device is 'toaster', which cannot be used here"):
        measure_image_collapse(
            CollapseModelConfig(NET),
            CollapseDataConfig(source),
            CollapseRunConfig("toaster"),
            out=tmp_path / "a",
        )
    with pytest.raises(RunFolderError, match="Nothing to resume"):
        measure(source, tmp_path / "b", resume=True)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "last.ckpt").write_bytes(b"garbage")
    stored = measure(source, tmp_path / "d")
    (tmp_path / "d" / "result.json").unlink()
    (tmp_path / "d" / "last.ckpt").write_bytes(b"garbage")
    with pytest.raises(RunFolderError, match=r"last\.ckpt is damaged"):
        measure(source, tmp_path / "d", resume=True)
    assert stored.seconds > 0


def test_shipped_recipe_is_table_11s(trained: tuple[str, Path], tmp_path: Path) -> None:
    source, _ = trained
    recipe = resolve_recipe("collapse/imagenet_resnet50.yaml").resolved
    assert recipe["model"]["image_model"] == "resnet50.tv_in1k" and recipe["model"]["pretrained"]
    assert (recipe["data"]["resize"], recipe["data"]["size"], recipe["data"]["limit_per_class"]) == (
        256,
        224,
        None,
    )
    words = [
        "--data.source",
        source,
        "--data.num_workers",
        "0",
        "--data.limit_per_class",
        "2",
        "--data.size",
        "32",
        "--data.resize",
        "32",
    ]
    words += ["--model.pretrained", "false", "--out", str(tmp_path)]
    result = resolve_recipe("collapse/imagenet_resnet50.yaml", words).run()
    assert result.metrics.keys() == {"cdnv_train", "cdnv_val"} and result.facts["pictures"] == {
        "train": 8,
        "val": 8,
    }
