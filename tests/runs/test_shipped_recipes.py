"""Every shipped recipe trains: one optimizer step on embedded data in ModelNet40's layout,
nothing written to disk.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from stepping import one_step

from pointlift.data.procedural.writers.objects import MODELNET40_CLASSES, write_modelnet_h5
from pointlift.runs.recipe_files import flatten, list_recipes
from pointlift.runs.recipes import resolve_recipe
from pointlift.tables.definition import list_tables, read_table

NETWORKS = ("resnet18", "resnet50", "resnet152")
REGIMES = ("io", "io+stats", "io+bn", "all", "scratch")
FAST = {("resnet18", "io+bn"), ("resnet18", "all")}
SMALL = [
    "--data.n_points",
    "64",
    "--data.voxel_size",
    "0.2",
    "--data.batch_size",
    "4",
    "--data.num_workers",
    "0",
]
CASES = [
    pytest.param(n, r, marks=() if (n, r) in FAST else pytest.mark.slow) for n in NETWORKS for r in REGIMES
]


@pytest.fixture(scope="module")
def modelnet40(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_modelnet_h5(
        tmp_path_factory.mktemp("data") / "modelnet40", 1, 1, 64, classes=MODELNET40_CLASSES, normals=False
    )


@pytest.mark.parametrize(("network", "regime"), CASES)
def test_modelnet40_recipe_takes_a_step(network: str, regime: str, modelnet40: Path, tmp_path: Path) -> None:
    name = f"image2point/modelnet40_{network}_{regime}.yaml"
    full = resolve_recipe(name).resolved
    assert full["model"]["regime"] == regime and full["model"]["image_model"] == f"{network}.tv_in1k"
    assert full["model"]["pretrained"] is (regime != "scratch")
    assert {
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "epochs": 300,
        "schedule": "cosine",
    }.items() <= full["optim"].items()
    assert {"batch_size": 32, "voxel_size": 0.05, "features": "xyz", "n_points": 2048}.items() <= full[
        "data"
    ].items()

    # weights would be downloaded
    words = ["--data.source", f"modelnet:{modelnet40}", "--model.pretrained", "false", *SMALL]
    if (network, regime) in FAST:  # the slow ones are as wide as the recipe says
        words += ["--model.image_options", '{"channels": [8, 16, 32, 64]}']
    module, changed = one_step(resolve_recipe(name, words), tmp_path)
    learned = {n for n, p in module.net.named_parameters() if p.requires_grad}
    # residual branches that start at zero pass no gradient on
    assert changed <= learned and len(changed) > len(learned) / 2
    inside = {n for n in learned if n.startswith("backbone.")}
    norms = {n for n in inside if dict(module.net.named_parameters())[n].ndim == 1}
    expected = {
        "io": (False, False),
        "io+stats": (False, False),
        "io+bn": (True, False),
        "all": (True, True),
        "scratch": (True, True),
    }
    assert (bool(norms), bool(inside - norms)) == expected[regime]


@pytest.mark.parametrize("name", ["image2point/demo.yaml", "image2point/your_own_folder.yaml"])
def test_recipes_for_newcomers_take_a_step(name: str, modelnet40: Path, tmp_path: Path) -> None:
    words = ["--data.source", f"modelnet:{modelnet40}", "--data.shots", "null", *SMALL]
    _, changed = one_step(resolve_recipe(name, words), tmp_path)
    assert changed


def test_no_recipe_is_left_out() -> None:
    covered = {f"image2point/modelnet40_{n}_{r}.yaml" for n in NETWORKS for r in REGIMES}
    covered |= {"image2point/demo.yaml", "image2point/your_own_folder.yaml"}
    tests = Path(__file__).parents[1]
    code = "".join(f.read_text(encoding="utf-8") for f in tests.rglob("test_*.py") if f != Path(__file__))
    # each of which tables/test_full_recipes.py runs
    in_tables = {recipe for name in list_tables() for recipe in recipes_of(name)}
    left = [r for r in list_recipes() if r not in covered | in_tables and Path(r).stem not in code]
    may_differ = {"out", "model.regime", "model.pretrained", "model.cloud_weights"}
    alone = [r for r in left if r == twin_of(r) or differences(r, twin_of(r)) - may_differ]
    assert not alone, f"nothing runs {', '.join(alone)}, or what differs in nothing but the regime"


def twin_of(recipe: str) -> str:
    """The recipe that fine-tunes all of the same network."""
    return re.sub(r"_(scratch|io\+stats|io\+bn|io)\.yaml$", "_all.yaml", recipe)


def differences(recipe: str, other: str) -> set[str]:
    """Dotted keys in which two recipes differ."""
    a, b = (flatten(resolve_recipe(name).resolved) for name in (recipe, other))
    return {k for k in a.keys() | b.keys() if a.get(k) != b.get(k)}


def recipes_of(table: str) -> set[str]:
    """The recipe files that a table's runs start from, at all its scales."""
    definition = read_table(table)
    found = {scale.recipe for scale in definition.scales.values()}
    for entry in (*definition.rows, *definition.columns, *definition.cells, *definition.before.values()):
        found |= {str(settings["recipe"]) for settings in entry.overlays.values() if "recipe" in settings}
    return found
