"""Every recipe of every table's full scale takes one optimizer step on data and weights in the real layouts."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch.nn.modules.batchnorm import _NormBase

from pointlift.data.procedural.writers import MODELNET40_CLASSES, write_modelnet_h5
from pointlift.experiments.recipes import Recipe, method_function, resolve
from pointlift.experiments.tables.definition import list_tables, read_table
from pointlift.experiments.tables.plan import Run, filled, make_plan
from pointlift.models import image_network

sys.path.insert(0, str(Path(__file__).parents[2] / "data"))
from image_writers import write_imagenet, write_tiny_imagenet

FEW_POINTS = {"n_points": 128, "voxel_size": 0.15, "batch_size": 4, "num_workers": 0, "shots": None, "share": None}
PIXELS = {"batch_size": 4, "num_workers": 0}
# a ResNet-152 from scratch overflows in evaluation after one larger step on four clouds
GENTLE = {"epochs": 1, "batch_size": 4, "lr": 1e-6}
ONE_STEP = {"max_steps": 1, "accelerator": "cpu", "devices": 1, "evaluate_every": 1}
WIDTH = {"FractalDB-1000_resnet50_epoch90.pth": 1000, "FractalDB-10000_resnet50_epoch90.pth": 10000, "resnet50_miil_21k.pth": 11221}


def full_runs() -> dict[str, tuple[Run, Any]]:
    """The distinct runs of all tables, seed 0: label -> (run, plan). Of those that differ in shots, share or regime alone, one is taken:
    test_shipped_recipes.py steps every regime."""
    found: dict[str, tuple[Run, Any]] = {}
    for name in list_tables():
        plan = make_plan(read_table(name), "full", "data")
        for run in plan.runs.values():
            data = {k: v for k, v in run.content.get("data", {}).items() if k not in ("shots", "share")}
            model = {k: v for k, v in run.content.get("model", {}).items() if k != "regime"}
            key = json.dumps([run.method, {**run.content, "data": data, "model": model}], sort_keys=True)
            if run.seed == 0:
                found.setdefault(key, (run, plan))
    return {f"{plan.table.id}: {run.label}": (run, plan) for run, plan in found.values()}


RUNS = full_runs()
CHEAP = [label for label in RUNS if label.startswith("image2point-v1/7") and "/ T1," in label]
assert len(CHEAP) == 1


@pytest.fixture(scope="session")
def real_layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `--data` would name: every dataset and every file of weights that the tables read, tiny or random."""
    root = tmp_path_factory.mktemp("data")
    write_modelnet_h5(root / "modelnet40_ply_hdf5_2048", 2, 1, 128, classes=MODELNET40_CLASSES, normals=False)
    truth = write_imagenet(root / "imagenet", val=3)[1]
    lines = [f"ILSVRC2012_val_{i:08d}.JPEG {wnid}\n" for i, wnid in enumerate(truth, 1)]
    (root / "imagenet" / "val.txt").write_text("".join(lines))
    write_tiny_imagenet(root / "tiny-imagenet-200")
    return root


def weights_file(path: Path, model: dict[str, Any]) -> None:
    """A file of the kind that the papers' authors link to, with random values, for the network that reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if "pointcontrast" in path.name:
        torch.save({"curr_iter": 1, "state_dict": pointcontrast_state(), "optimizer": {}, "scheduler": {}}, path)
        return
    options = dict(model.get("image_options") or {})
    if path.name in WIDTH:
        options["num_classes"] = WIDTH[path.name]
    state = image_network(model["image_model"].split(".")[0], options=options).state_dict()
    if "ade20k" in path.name:  # CSAIL: the deep stem is conv1, bn1, conv2, bn2, conv3, bn3, and nothing behind the stages
        stem = {"conv1.0": "conv1", "conv1.1": "bn1", "conv1.3": "conv2", "conv1.4": "bn2", "conv1.6": "conv3", "bn1": "bn3"}
        state = {rename(k, stem): v for k, v in state.items() if not k.startswith("fc.")}
    torch.save({"state_dict": state} if "miil" in path.name else state, path)


def rename(name: str, names: dict[str, str]) -> str:
    for old, new in names.items():
        if name.startswith(f"{old}."):
            return new + name.removeprefix(old)
    return name


def pointcontrast_state() -> dict[str, torch.Tensor]:
    """The encoder of PointContrast's Res16UNet34C under its own names (facts 2.3)."""
    widths, depths = (32, 64, 128, 256), (2, 3, 4, 6)
    state: dict[str, torch.Tensor] = {"conv0p1s1.kernel": torch.randn(27, 3, 32), **bn("bn0", 32)}
    channels = 32
    for stage, (width, depth) in enumerate(zip(widths, depths), 1):
        state |= {f"conv{stage}p{2 ** (stage - 1)}s2.kernel": 0.1 * torch.randn(8, channels, channels), **bn(f"bn{stage}", channels)}
        for block in range(depth):
            name = f"block{stage}.{block}"
            state |= {f"{name}.conv1.kernel": 0.05 * torch.randn(27, channels, width), **bn(f"{name}.norm1", width)}
            state |= {f"{name}.conv2.kernel": 0.05 * torch.randn(27, width, width), **bn(f"{name}.norm2", width)}
            if channels != width:
                state |= {f"{name}.downsample.0.kernel": 0.1 * torch.randn(channels, width), **bn(f"{name}.downsample.1", width)}
            channels = width
    return state


def bn(name: str, channels: int) -> dict[str, torch.Tensor]:
    values = {"weight": torch.ones(channels), "bias": torch.zeros(channels), "running_mean": torch.zeros(channels)}
    values |= {"running_var": torch.ones(channels), "num_batches_tracked": torch.tensor(1)}
    return {f"{name}.bn.{key}": value for key, value in values.items()}


def shrunk(recipe: Recipe) -> Recipe:
    """One small step of a few clouds or pictures on the CPU; networks, sizes of pictures and kinds of optimizers stay as they are."""
    content: dict[str, Any] = json.loads(json.dumps(recipe.resolved))
    pixels = str(content["data"].get("source", "")).startswith(("pixels:", "imagenet:", "tiny-imagenet:"))
    content["data"] |= {k: v for k, v in (PIXELS if pixels else FEW_POINTS).items() if k in content["data"]}
    if recipe.method == "distillation":
        content["data"]["shots"] = 1  # of two clouds per class, so that some are not labelled
    for group in ("model", "teacher"):
        if "pretrained" in content.get(group, {}):
            content[group]["pretrained"] = False  # nothing is downloaded here
    for group in ("optim", "teacher_optim"):
        if group in content:
            content[group] |= {k: v for k, v in GENTLE.items() if k in content[group]}
    if "trainer" in content:
        content["trainer"] |= {k: v for k, v in ONE_STEP.items() if k in content["trainer"]}
    return resolve(method_function(recipe.method), recipe.method, content, (), recipe.source)


@pytest.fixture
def one_batch_statistics(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Running statistics are those of the last batch: with the usual momentum they are nine parts initial values after one step, with which
    deep networks overflow in evaluation; that says nothing of the recipe."""
    construct = _NormBase.__init__

    def follow(self: _NormBase, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, *args: Any, **settings: Any) -> None:
        construct(self, num_features, eps, 1.0, *args, **settings)

    monkeypatch.setattr(_NormBase, "__init__", follow)
    yield
    gc.collect()


def take_step(run: Run, plan: Any, root: Path, cache: Path) -> Path:
    """Run it, after what it builds on, and return its folder; a folder that is there is not made again."""
    folder = cache / run.key
    if folder.is_dir():
        return folder
    for key in run.after:
        take_step(plan.runs[key], plan, root, cache)
    recipe = shrunk(filled(run, str(root), lambda key: cache / key))
    for group in ("model", "teacher"):
        settings = recipe.resolved.get(group, {})
        for key in ("weights", "cloud_weights"):
            path = Path(settings.get(key) or root)
            if path.is_relative_to(root) and not path.exists():
                weights_file(path, settings)
    recipe.run(out=str(folder))
    return folder


@pytest.mark.parametrize("label", [pytest.param(n, marks=() if n in CHEAP else pytest.mark.slow) for n in RUNS])
def test_takes_a_step(label: str, real_layouts: Path, tmp_path_factory: pytest.TempPathFactory, one_batch_statistics: None) -> None:
    run, plan = RUNS[label]
    cache = tmp_path_factory.getbasetemp() / "full_recipes"
    cache.mkdir(exist_ok=True)
    folder = take_step(run, plan, real_layouts, cache)
    metrics = json.loads((folder / "result.json").read_text())["metrics"]
    assert metrics and all(isinstance(v, float) and v == v and abs(v) != float("inf") for v in metrics.values()), metrics
    for file in folder.glob("*.ckpt"):
        file.unlink()  # gigabytes, for the largest
    if not any(run.key in other.after for other, _ in RUNS.values()):
        for file in folder.rglob("*.safetensors"):
            file.unlink()


def test_wide_resnet_is_the_papers_101x2() -> None:
    """ResNet101x2 has the twofold width of the inner 3x3 convolutions (torchvision's wide_resnet101_2), 126.9 M parameters in 2D."""
    with torch.device("meta"):
        assert sum(p.numel() for p in timm.create_model("wide_resnet101_2").parameters()) == 126_886_696
