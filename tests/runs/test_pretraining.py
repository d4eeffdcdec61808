"""Image pre-training as a method: runs that learn, resume bit for bit and leave what they promise;
every shipped recipe takes a step.
"""

import csv
import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from coloured_net import ColouredNet, fit
from fitting import fit_image_network
from safetensors.torch import load_file

from pointlift.data.errors import DataError
from pointlift.data.procedural.fractals.fractal_images import write_fractaldb
from pointlift.data.procedural.fractals.systems import search_categories
from pointlift.methods.image_pretraining.module import (
    FractalDataConfig,
    ImageOptimConfig,
    fractal_pictures,
    top1,
)
from pointlift.methods.image_pretraining.recipe import ImageDataConfig, ImageModelConfig, ImageViewConfig
from pointlift.methods.method import DivergenceError
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.images.fractal_resnet import FractalResNet, read_weights
from pointlift.runs.folder import RunFolderError
from pointlift.runs.recipes import resolve_recipe
from pointlift.runs.result import RunResult
from pointlift.weights.archive import read_archive
from pointlift.weights.image_weights import load_image_weights

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from image_writers import write_coloured, write_imagenet, write_tiny_imagenet

CPU = TrainerConfig(accelerator="cpu", enable_progress_bar=False)
SMALL = ImageDataConfig(categories=3, instances_per_class=40, image_size=24, val_instances=10)


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    """Networks this small only wait for a second thread, for very long on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"imagefolder:{write_coloured(tmp_path_factory.mktemp('pictures'), {'train': 9, 'val': 5})}"


def test_learns_colours_and_leaves_everything_on_record(coloured: str, tmp_path: Path) -> None:
    result = fit(coloured, str(tmp_path), {})
    assert result.metrics["val_accuracy"] == 1.0 and result.metrics["train_loss"] < 0.5 * math.log(4)
    assert result.facts["classes"] == 4 and result.total == sum(
        p.numel() for p in ColouredNet(4).parameters()
    )
    stored = json.loads((tmp_path / "result.json").read_text())
    assert (
        stored["metrics"] == result.metrics
        and stored["checkpoint"] == "model.safetensors"
        and stored["seconds"] > 0
    )
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [r["epoch"] for r in rows] == ["0", "1", "2"] and [int(r["step"]) for r in rows] == [4, 8, 12]
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    protocol = json.loads((tmp_path / "protocol.json").read_text())
    assert protocol["data"]["pictures"] == {"train": 36, "val": 20} and protocol["steps_per_epoch"] == 4
    net = ColouredNet(4)
    report = load_image_weights(tmp_path / "model.safetensors", net)
    assert not report.missing and all(
        t.dtype != torch.float16 for t in load_file(tmp_path / "model.safetensors").values()
    )
    archive = read_archive(tmp_path / "model.safetensors")
    assert archive.kind == "image" and archive.intact()
    assert archive.content and archive.content["classes"] == ["blue", "green", "red", "white"]
    assert RunResult.read(tmp_path) == result == fit(coloured, str(tmp_path), {}, resume=True)
    with pytest.raises(RunFolderError, match="already holds a run"):
        fit(coloured, str(tmp_path), {})


def same_weights(a: Path, b: Path) -> bool:
    first, second = load_file(a / "model.safetensors"), load_file(b / "model.safetensors")
    return first.keys() == second.keys() and all(
        torch.equal(second[name], tensor) for name, tensor in first.items()
    )


@pytest.mark.parametrize(("stop", "every"), [(2, None), (6, None), (7, 1)])
def test_a_run_that_broke_ends_as_if_it_had_not(
    stop: int, every: int | None, coloured: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"dropout": 0.3}
    whole = fit(coloured, str(tmp_path / "whole"), options)
    monkeypatch.setenv("POINTLIFT_TEST_STOP", str(-stop))
    with pytest.raises(KeyError, match="the power is off"):
        fit(coloured, str(tmp_path / "broken"), options, every=every)
    monkeypatch.delenv("POINTLIFT_TEST_STOP")
    if stop == 2:  # in the first epoch: nothing to resume, and nothing in the way of starting again
        with pytest.raises(RunFolderError, match="stopped before the first checkpoint"):
            fit(coloured, str(tmp_path / "broken"), options, resume=True)
    resumed = fit(coloured, str(tmp_path / "broken"), options, resume=stop > 4, workers=2)
    assert resumed.metrics == whole.metrics and same_weights(tmp_path / "whole", tmp_path / "broken")
    with pytest.raises(
        RunFolderError, match=r"has another recipe \(model.options.dropout is 0.3 there and 0.1 here\)"
    ):
        (tmp_path / "broken" / "result.json").unlink()
        fit(coloured, str(tmp_path / "broken"), {"dropout": 0.1}, resume=True)


@pytest.mark.slow  # two processes import torch
def test_a_killed_run_ends_as_if_it_had_not_been(coloured: str, tmp_path: Path) -> None:
    fit(coloured, str(tmp_path / "whole"), {})
    call = (
        f"from coloured_net import fit; fit({coloured!r}, {str(tmp_path / 'killed')!r}, dict(), "
        "workers=1, resume="
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    killed = subprocess.run(
        [sys.executable, "-c", f"{call}False)"], env=environment | {"POINTLIFT_TEST_STOP": "7"}, check=False
    )
    assert killed.returncode == -signal.SIGKILL and not (tmp_path / "killed" / "result.json").exists()
    subprocess.run([sys.executable, "-c", f"{call}True)"], env=environment, check=True)
    assert same_weights(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.slow
def test_embedded_fractals_make_the_file_that_ships(tmp_path: Path) -> None:
    optim = ImageOptimConfig(lr=0.02, epochs=2, batch_size=20)
    result = fit_image_network(ImageModelConfig(), SMALL, optim=optim, trainer=CPU, seed=2, out=tmp_path)
    weights, full = (
        read_weights(tmp_path / "fractal_resnet.safetensors"),
        load_file(tmp_path / "model.safetensors"),
    )
    assert all(
        torch.equal(full[name].half().float(), tensor)
        for name, tensor in weights.items()
        if tensor.is_floating_point()
    )
    archive = read_archive(tmp_path / "fractal_resnet.safetensors")
    facts = archive.content
    assert archive.tensors["conv1.weight"].dtype == torch.float16 and facts
    recipe = json.loads(facts["recipe"])
    assert recipe["data"] == {
        "categories": 3,
        "instances_per_class": 40,
        "image_size": 24,
        "seed": 1,
        "val_instances": 10,
    }
    assert recipe["optim"]["epochs"] == 2 and recipe["model"] == {"name": "fractal_resnet", "num_classes": 3}
    assert (facts["seed"], facts["classes"], facts["crop"]) == ("2", "3", "21") and int(facts["seconds"]) >= 0
    model = FractalResNet(3)
    model.load_state_dict(weights)
    held_out = fractal_pictures(FractalDataConfig(**recipe["data"]), search_categories(3, 1), "val")
    assert facts["val_accuracy"] == f"{top1(model, held_out, 21):.4f}" and result.facts["classes"] == 3


@pytest.mark.slow
def test_embedded_fractals_are_learned(tmp_path: Path) -> None:
    model = ImageModelConfig(
        "resnet18", options={"layers": [1, 1, 1, 1], "channels": [8, 16, 16, 16]}, half=True
    )
    data = replace(SMALL, instances_per_class=100)
    result = fit_image_network(
        model,
        data,
        optim=ImageOptimConfig(lr=0.1, epochs=5, batch_size=20),
        trainer=CPU,
        seed=1,
        out=tmp_path,
    )
    assert result.metrics["train_loss"] < 0.7 * math.log(3) and result.metrics["val_accuracy"] > 0.6
    assert not (tmp_path / "fractal_resnet.safetensors").exists()
    net = timm.create_model("resnet18", layers=[1, 1, 1, 1], channels=[8, 16, 16, 16], num_classes=3)
    assert load_file(tmp_path / "model.safetensors")["conv1.weight"].dtype == torch.float16
    assert not load_image_weights(tmp_path / "model.safetensors", net).missing


def test_what_does_not_fit_together(coloured: str, tmp_path: Path) -> None:
    def refused(words: str, kind: type[Exception] = ValueError, **arguments: Any) -> None:
        with pytest.raises(kind, match=words):
            fit_image_network(
                **{
                    "data": ImageDataConfig(source=coloured),
                    "trainer": CPU,
                    "out": tmp_path / "out",
                    **arguments,
                }
            )
        assert not (tmp_path / "out").exists()

    refused("num_classes is 5, but .* has 4 classes", model=ImageModelConfig(num_classes=5))
    refused(
        r"makes \(1, 7\) of a picture, expected \(1, 4\)",
        model=ImageModelConfig(own_net("four"), options={"outputs": 7}),
    )
    refused("no model named 'resnet81'", model=ImageModelConfig("resnet81"))
    refused(
        "vit_tiny_patch16_224 cannot take pictures of 64",
        model=ImageModelConfig("vit_tiny_patch16_224"),
        views=ImageViewConfig(size=64),
    )
    refused("bring their own", data=ImageDataConfig(), views=ImageViewConfig(size=64))
    refused(
        "5 pictures over all devices, which 2 devices",
        optim=ImageOptimConfig(batch_size=5),
        trainer=replace(CPU, devices=2),
    )
    refused("did you mean imagenet", DataError, data=ImageDataConfig(source="imagnet:x"))
    refused("seed is -1", seed=-1)
    for arguments, words in (
        ({"source": "a", "categories": 60}, "categories belongs to the embedded fractals"),
        ({"limit_per_class": 0}, "limit_per_class is 0"),
        ({"num_workers": -1}, "num_workers is -1"),
    ):
        with pytest.raises(ValueError, match=words):
            ImageDataConfig(**arguments)
    for arguments, words in (
        ({"size": 0}, "size is 0"),
        ({"resize": 100}, "resize 100"),
        ({"std": [1, 0, 1]}, "std above 0"),
    ):
        with pytest.raises(ValueError, match=words):
            ImageViewConfig(**arguments)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_picture_is_named(workers: int, tmp_path: Path) -> None:
    root = write_coloured(tmp_path / "pictures", {"train": 3, "val": 2})
    (root / "train" / "red" / "red_1.png").write_bytes(b"nothing")
    with pytest.raises(DataError) as caught:
        fit(f"imagefolder:{root}", str(tmp_path / "run"), {}, workers=workers)
    assert "red_1.png: cannot be read as a picture" in str(caught.value) and "\n" not in str(caught.value)


def test_a_run_that_diverges_says_when(coloured: str, tmp_path: Path) -> None:
    model, optim = ImageModelConfig(own_net("four")), ImageOptimConfig(lr=1e25, epochs=3, batch_size=8)
    with pytest.raises(DivergenceError, match=r"loss became (NaN|infinite) at step \d+ \(epoch \d\)"):
        fit_image_network(
            model,
            ImageDataConfig(source=coloured),
            ImageViewConfig(size=16, resize=20),
            optim,
            CPU,
            out=tmp_path,
        )


def test_limits_and_labels(coloured: str, tmp_path: Path) -> None:
    fit(coloured, str(tmp_path), {}, limit_per_class=4)
    protocol = json.loads((tmp_path / "protocol.json").read_text())
    assert protocol["data"]["pictures"] == {"train": 16, "val": 20}


def own_net(function: str) -> str:
    return f"{Path(__file__).with_name('coloured_net.py')}:{function}"


SHIPPED = {
    "resnet50_imagenet": ("imagenet", "resized-crop", 224, 25_557_032),
    "resnet18_imagenet": ("imagenet", "resized-crop", 224, 11_689_512),
    "pointcontrast_resnet34_imagenet": ("imagenet", "resized-crop", 224, None),
    "resnet50_tiny_imagenet": ("tiny-imagenet", "resized-crop", 64, 23_917_832),
    "resnet50_fractaldb1k": ("fractaldb", "crop", 224, 25_557_032),
    "resnet50_fractaldb10k": ("fractaldb", "crop", 224, 43_998_032),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n == "resnet50_tiny_imagenet" else pytest.mark.slow) for n in SHIPPED],
)
def test_shipped_recipes_are_the_published_ones_and_take_a_step(name: str, tmp_path: Path) -> None:
    kind, train, size, _ = SHIPPED[name]
    recipe = resolve_recipe(f"pretrain/{name}.yaml").resolved
    assert (
        recipe["data"]["source"].startswith(f"{kind}:")
        and recipe["views"]["train"] == train
        and recipe["views"]["size"] == size
    )
    published = {
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "epochs": 90,
        "batch_size": 256,
        "schedule": "step",
        "label_smoothing": 0.0,
    }
    assert recipe["optim"] == published
    views = recipe["views"]
    if kind == "fractaldb":
        assert (views["flip"], views["resize"], views["mean"], views["std"]) == (
            "none",
            None,
            [0.2] * 3,
            [0.5] * 3,
        )
        write_fractaldb(tmp_path / "data", search_categories(2, seed=1), 362, patterns=1, iterations=2000)
        source = f"fractaldb:{tmp_path / 'data'}"
    else:
        assert (views["flip"], views["mean"][0], views["resize"]) == (
            "horizontal",
            0.485,
            64 if kind == "tiny-imagenet" else 256,
        )
        write = write_tiny_imagenet if kind == "tiny-imagenet" else flat_imagenet
        source = f"{kind}:{write(tmp_path / 'data')}"
    words = [
        "--data.source",
        source,
        "--data.limit_per_class",
        "2",
        "--data.num_workers",
        "0",
        "--optim.batch_size",
        "4",
        "--out",
    ]
    words += [
        str(tmp_path / "run"),
        "--trainer.max_steps",
        "1",
        "--trainer.accelerator",
        "cpu",
        "--trainer.enable_progress_bar",
        "false",
    ]
    result = resolve_recipe(f"pretrain/{name}.yaml", words).run()
    assert math.isfinite(result.metrics["train_loss"]) and (tmp_path / "run" / "model.safetensors").is_file()
    step = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))[-1]["step"]
    assert step == "1"


@pytest.mark.parametrize("name", [n for n in SHIPPED if SHIPPED[n][3]])
def test_shipped_networks_have_the_published_sizes(name: str) -> None:
    recipe = resolve_recipe(f"pretrain/{name}.yaml").resolved["model"]
    classes = {"resnet50_tiny_imagenet": 200, "resnet50_fractaldb10k": 10_000}.get(name, 1000)
    with torch.device("meta"):
        net = timm.create_model(recipe["name"], num_classes=classes, **recipe["options"])
    assert sum(p.numel() for p in net.parameters()) == SHIPPED[name][3]


def flat_imagenet(root: Path) -> Path:
    root, truth = write_imagenet(root)
    lines = [f"ILSVRC2012_val_{i:08d},{wnid} 1 2 3 4" for i, wnid in enumerate(truth, 1)]
    (root / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + "\n".join(lines) + "\n")
    return root
