"""Every recipe of every table's full scale takes one optimizer step on data and weights in the real
layouts.
"""

from __future__ import annotations

import functools
import gc
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import timm
import torch
from torch.nn.modules.batchnorm import _NormBase

from pointlift.core.mesh import Mesh
from pointlift.data.procedural.streets import Lidar
from pointlift.data.procedural.writers.objects import (
    MODELNET40_CLASSES,
    write_modelnet_h5,
    write_modelnet_txt,
    write_off,
    write_shapenetpart,
)
from pointlift.data.procedural.writers.rooms import write_s3dis
from pointlift.data.procedural.writers.streets import write_semantickitti
from pointlift.models import image_network
from pointlift.runs.recipes import Recipe, resolve
from pointlift.tables.code_fingerprints import this_package
from pointlift.tables.definition import list_tables, read_table
from pointlift.tables.fingerprint import FileIdentities
from pointlift.tables.plan import Plan, Run, filled, make_plan

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from folder_writers import write_views
from image_writers import write_imagenet, write_tiny_imagenet
from scan_writers import write_scanobjectnn, write_scanobjectnn_raw

FEW_POINTS = {
    "n_points": 128,
    "voxel_size": 0.15,
    "batch_size": 4,
    "num_workers": 0,
    "shots": None,
    "share": None,
    "repeat": 1,
}
PIXELS = {"batch_size": 4, "num_workers": 0}
# a ResNet-152 from scratch overflows in evaluation after one larger step on four clouds
GENTLE = {"epochs": 1, "batch_size": 4, "lr": 1e-6, "final_lr": 0.0}
ONE_STEP = {"max_steps": 1, "accelerator": "cpu", "devices": 1, "evaluate_every": 1}
VIEWS = 4  # pictures of an object; the real folder has 20
SMALL: dict[str, dict[str, Any]] = {  # of groups that only some methods have
    "views": {"size": 32},
    "generator": {"n_points": 32, "batch_size": 4},
    "transfer": {"teacher_batch_size": 4},
}
CHEAP_TABLE = "image2point-v1/7"
WIDTH = {
    "FractalDB-1000_resnet50_epoch90.pth": 1000,
    "FractalDB-10000_resnet50_epoch90.pth": 10000,
    "resnet50_miil_21k.pth": 11221,
}


FEWER = ("shots", "share", "scenes", "labels", "repeat")  # of the same clouds


@functools.cache
def full_runs(tables: tuple[str, ...]) -> dict[str, tuple[Run, Plan]]:
    """The distinct runs of the tables, seed 0: label -> (run, plan). Of those that differ in shots, shares or
    regime alone, one is taken: test_shipped_recipes.py steps every regime. Of PointCMT's, those with a
    student, dataset, kind of views, way of transfer or other group of settings that none before has."""
    found: dict[str, tuple[Run, Plan]] = {}
    seen: set[str] = set()
    codes, files, resolved = this_package(), FileIdentities("data"), dict[str, Recipe]()
    for name in tables:
        plan = make_plan(read_table(name), "full", "data", codes, files, resolved)
        for run in plan.runs.values():
            data = {k: v for k, v in run.content.get("data", {}).items() if k not in FEWER}
            model = {k: v for k, v in run.content.get("model", {}).items() if k != "regime"}
            content = {**run.content, "data": data, "model": model}
            key = json.dumps([run.method, content], sort_keys=True)
            if run.method == "pointcmt":
                # a step's own sizes tell no runs apart
                content["transfer"] = content["transfer"] | SMALL["transfer"]
                groups = {
                    json.dumps([name, group], sort_keys=True)
                    for name, group in content.items()
                    if name != "seed"
                }
                if run.seed != 0 or groups <= seen:
                    continue
                seen |= groups
            if run.seed == 0:
                found.setdefault(key, (run, plan))
    return {f"{plan.table.id}: {run.label}": (run, plan) for run, plan in found.values()}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Planning every table takes most of a minute: the fast tests, which take one cheap run,
    plan its table alone.
    """
    if "label" in metafunc.fixturenames:
        fast = metafunc.config.getoption("markexpr") == "not slow"
        runs = full_runs((CHEAP_TABLE,) if fast else tuple(list_tables()))
        cheap = [label for label in runs if label.startswith(f"{CHEAP_TABLE}:") and "/ T1," in label]
        assert len(cheap) == 1
        marks = {label: () if label in cheap else pytest.mark.slow for label in runs}
        metafunc.parametrize(
            ("label", "runs"), [pytest.param(label, runs, id=label, marks=marks[label]) for label in runs]
        )


@pytest.fixture(scope="session")
def real_layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `--data` would name; `lay_out` fills it."""
    return tmp_path_factory.mktemp("data")


def lay_out(root: Path, run: Run) -> None:
    """The datasets that the run reads, tiny and in their real layouts, where they are not there yet."""
    text = json.dumps(run.content)
    for name, write in LAYOUTS.items():
        if f"{{data}}/{name}" in text and not (root / name).exists():
            write(root / name)


def dull_views(mesh: Mesh) -> npt.NDArray[np.uint8]:
    """Pictures of one brightness each, which differs from object to object."""
    rng = np.random.default_rng(len(mesh.faces) + int(1e6 * mesh.vertices.abs().sum()))
    return np.broadcast_to(rng.integers(0, 256, (VIEWS, 1, 1, 3), dtype=np.uint8), (VIEWS, 8, 8, 3)).copy()


def imagenet(folder: Path) -> None:
    truth = write_imagenet(folder, val=3)[1]
    lines = [f"ILSVRC2012_val_{i:08d}.JPEG {wnid}\n" for i, wnid in enumerate(truth, 1)]
    (folder / "val.txt").write_text("".join(lines))


def scans(folder: Path) -> None:
    write_scanobjectnn(folder, 1, 1, 128, variants=("obj-only", "pb-t50-rs"))
    coloured = folder.with_name("coloured scans")
    write_scanobjectnn_raw(coloured, 1, 1, (150, 200))
    (coloured / "object_dataset").rename(folder / "object_dataset")


FEW = MODELNET40_CLASSES[:6]  # every run of PointCMT goes through all of its objects several times
LAYOUTS: dict[str, Callable[[Path], object]] = {
    "modelnet40_ply_hdf5_2048": lambda folder: write_modelnet_h5(
        folder, 2, 1, 128, classes=MODELNET40_CLASSES, normals=False
    ),
    "imagenet": imagenet,
    "tiny-imagenet-200": write_tiny_imagenet,
    "modelnet40_normal_resampled": lambda folder: write_modelnet_txt(folder, 2, 1, 128, classes=FEW),
    "Stanford3dDataset_v1.2_Aligned_Version": lambda folder: write_s3dis(folder, {1: 2, 5: 1}, 600),
    "semantickitti/dataset": lambda folder: write_semantickitti(
        folder, {0: 2, 8: 1}, Lidar(beams=16, azimuths=64)
    ),
    "ModelNet40": lambda folder: write_off(folder, 2, 1, classes=FEW),
    "ModelNet40_mv_20view": lambda folder: write_views(folder, dull_views, 2, 1, classes=FEW),
    "ScanObjectNN": scans,
    "shapenetcore_partanno_segmentation_benchmark_v0_normal": lambda folder: write_shapenetpart(
        folder, 1, 1, 1, (150, 200)
    ),
}


def weights_file(path: Path, model: dict[str, Any]) -> None:
    """A file of the kind that the papers' authors link to, with random values,
    for the network that reads it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if "pointcontrast" in path.name:
        torch.save(
            {"curr_iter": 1, "state_dict": pointcontrast_state(), "optimizer": {}, "scheduler": {}}, path
        )
        return
    options = dict(model.get("image_options") or {})
    if path.name in WIDTH:
        options["num_classes"] = WIDTH[path.name]
    state = image_network(model["image_model"].split(".")[0], options=options).state_dict()
    # CSAIL: the deep stem is conv1, bn1, conv2, bn2, conv3, bn3, and nothing behind the stages
    if "ade20k" in path.name:
        stem = {
            "conv1.0": "conv1",
            "conv1.1": "bn1",
            "conv1.3": "conv2",
            "conv1.4": "bn2",
            "conv1.6": "conv3",
            "bn1": "bn3",
        }
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
        state |= {
            f"conv{stage}p{2 ** (stage - 1)}s2.kernel": 0.1 * torch.randn(8, channels, channels),
            **bn(f"bn{stage}", channels),
        }
        for block in range(depth):
            name = f"block{stage}.{block}"
            state |= {
                f"{name}.conv1.kernel": 0.05 * torch.randn(27, channels, width),
                **bn(f"{name}.norm1", width),
            }
            state |= {
                f"{name}.conv2.kernel": 0.05 * torch.randn(27, width, width),
                **bn(f"{name}.norm2", width),
            }
            if channels != width:
                state |= {
                    f"{name}.downsample.0.kernel": 0.1 * torch.randn(channels, width),
                    **bn(f"{name}.downsample.1", width),
                }
            channels = width
    return state


def bn(name: str, channels: int) -> dict[str, torch.Tensor]:
    values = {
        "weight": torch.ones(channels),
        "bias": torch.zeros(channels),
        "running_mean": torch.zeros(channels),
    }
    values |= {"running_var": torch.ones(channels), "num_batches_tracked": torch.tensor(1)}
    return {f"{name}.bn.{key}": value for key, value in values.items()}


def shrunk(recipe: Recipe) -> Recipe:
    """One small step of a few clouds or pictures on the CPU;
    networks, sizes of pictures and kinds of optimizers stay as they are.
    """
    content: dict[str, Any] = json.loads(json.dumps(recipe.resolved))
    pixels = str(content["data"].get("source", "")).startswith(("pixels:", "imagenet:", "tiny-imagenet:"))
    content["data"] |= {k: v for k, v in (PIXELS if pixels else FEW_POINTS).items() if k in content["data"]}
    if content["data"].get("fps_points") is not None:
        content["data"] |= {"fps_points": 128, "read_points": 128}
    if recipe.method == "distillation":
        content["data"]["shots"] = 1  # of two clouds per class, so that some are not labelled
    if content.get("model", {}).get("network") == "range-view":
        content["model"]["options"] = {**(content["model"]["options"] or {}), "height": 32, "width": 128}
    for group in ("model", "teacher"):
        if "pretrained" in content.get(group, {}):
            content[group]["pretrained"] = False  # nothing is downloaded here
    for group, smaller in SMALL.items():
        if group in content:
            content[group] |= smaller
    if content.get("views", {}).get("n_views"):
        content["views"]["n_views"] = VIEWS
    for group in ("optim", "teacher_optim", "generator_optim"):
        if group in content:
            content[group] |= {k: v for k, v in GENTLE.items() if k in content[group]}
    if "trainer" in content:
        content["trainer"] |= {k: v for k, v in ONE_STEP.items() if k in content["trainer"]}
    return resolve(recipe.method, content, (), recipe.source)


@pytest.fixture
def one_batch_statistics(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Running statistics are those of the last batch: with the usual momentum they are nine parts initial
    values after one step, with which deep networks overflow in evaluation; that says nothing of the recipe.
    """
    construct = _NormBase.__init__

    def follow(
        self: _NormBase,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        *args: Any,
        **settings: Any,
    ) -> None:
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
    lay_out(root, run)
    recipe = shrunk(filled(run, str(root), lambda key: cache / key))
    for group in ("model", "teacher"):
        settings = recipe.resolved.get(group, {})
        for key in ("weights", "cloud_weights"):
            path = Path(settings.get(key) or root)
            if path.is_relative_to(root) and not path.exists():
                weights_file(path, settings)
    recipe.run(out=str(folder))
    return folder


def test_takes_a_step(
    label: str,
    runs: dict[str, tuple[Run, Plan]],
    real_layouts: Path,
    tmp_path_factory: pytest.TempPathFactory,
    one_batch_statistics: None,
) -> None:
    run, plan = runs[label]
    cache = tmp_path_factory.getbasetemp() / "full_recipes"
    cache.mkdir(exist_ok=True)
    folder = take_step(run, plan, real_layouts, cache)
    metrics = json.loads((folder / "result.json").read_text())["metrics"]
    assert metrics and all(
        isinstance(v, float) and v == v and abs(v) != float("inf") for v in metrics.values()
    ), metrics
    for file in folder.rglob("*.ckpt"):
        file.unlink()  # gigabytes, for the largest
    if not any(run.key in other.after for other, _ in runs.values()):
        for file in folder.rglob("*.safetensors"):
            file.unlink()


def test_wide_resnet_is_the_papers_101x2() -> None:
    """ResNet101x2 has the twofold width of the inner 3x3 convolutions (torchvision's wide_resnet101_2),
    126.9 M parameters in 2D.
    """
    with torch.device("meta"):
        assert sum(p.numel() for p in timm.create_model("wide_resnet101_2").parameters()) == 126_886_696
