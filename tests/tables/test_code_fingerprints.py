"""Which changes of the code change the key of a run,
shown on a small package of the same layout and on a copy of this one.
"""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pointlift.tables import code_fingerprints
from pointlift.tables.code_fingerprints import CodeFingerprints, named_in, syntax

TREE = {
    "methods/__init__.py": (
        'METHODS: dict[str, str] = {"fit": "pointlift.methods.fit:Fit", "teach": '
        '"pointlift.methods.teach:Teach"}\n'
    ),
    "methods/fit.py": (
        '"""Trains."""\nfrom pointlift.data.sources import open_dataset\nfrom pointlift.models import '
        "create_model\n"
        "from pointlift.ops.pool import pool\n\n\nclass Fit:\n    def run(self, recipe):\n"
        "        return pool(create_model(recipe.name), open_dataset(recipe.source))\n"
    ),
    "methods/teach.py": "class Teach:\n    pass\n",
    "models/__init__.py": (
        "from pointlift.models.factory import create_model, list_models\n\n__all__ = "
        "['create_model', 'list_models']\n"
    ),
    "models/factory.py": (
        'from importlib import import_module\n\nPOINT_NETWORKS = {\n    "mlp": "pointlift.models.mlp:MLP",\n'
        '    "conv": "pointlift.models.conv:Conv",\n}\n\n\ndef create_model(name):\n'
        '    module, _, attribute = POINT_NETWORKS[name].partition(":")\n    return '
        "getattr(import_module(module), attribute)()\n\n\n"
        "def list_models():\n    return list(POINT_NETWORKS)\n"
    ),
    "models/mlp.py": "from pointlift.nn import layers\n\n\nclass MLP:\n    made_of = layers.Linear\n",
    "models/conv.py": "from pointlift.nn.kernels import Kernel\n\n\nclass Conv(Kernel):\n    pass\n",
    "nn/__init__.py": "",
    "nn/layers.py": "class Linear:\n    size = 3\n",
    "nn/kernels.py": "class Kernel:\n    size = 3\n",
    "ops/pool/__init__.py": "from pointlift.ops.pool.api import pool\n\n__all__ = ['pool']\n",
    "ops/pool/api.py": (
        "from importlib import import_module\n\n\ndef pool(a, b):\n"
        '    return import_module(f"pointlift.ops.pool.{a}").pool(b)\n'
    ),
    "ops/pool/cpu.py": "def pool(x):\n    return max(x)\n",
    "data/sources/__init__.py": (
        'SOURCES = {"cubes": "pointlift.data.sources.cubes:SPEC", "balls": '
        '"pointlift.data.sources.balls:SPEC"}\n\n\n'
        "def open_dataset(source):\n    return SOURCES[source]\n"
    ),
    "data/sources/cubes.py": "SPEC = 6\n",
    "data/sources/balls.py": "SPEC = 1\n",
    "runs/run.py": (
        "from pointlift.report.page import write\n\n\ndef run(recipe):\n    return write(recipe)\n"
    ),
    "report/page.py": "def write(recipe):\n    return recipe\n",
}
RECIPE = {"model": {"image_model": "mlp"}, "data": {"source": "cubes:small?n=3"}}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "pointlift"
    for name, code in TREE.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(code)
    return root


def key(tree: Path, content: Mapping[str, Any] = RECIPE, method: str = "fit") -> str:
    return CodeFingerprints(tree).of_run(method, content)


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(tree: Path) -> None:
        before = (tree / name).read_text()
        assert old in before
        (tree / name).write_text(before.replace(old, new))

    return change


def add_network(tree: Path) -> None:
    (tree / "models" / "new.py").write_text("class New:\n    pass\n")
    edit("models/factory.py", '    "conv"', '    "new": "pointlift.models.new:New",\n    "conv"')(tree)


def add_reader(tree: Path) -> None:
    (tree / "data" / "sources" / "cones.py").write_text("SPEC = 2\n")
    edit("data/sources/__init__.py", '{"cubes"', '{"cones": "pointlift.data.sources.cones:SPEC", "cubes"')(
        tree
    )


def add_method(tree: Path) -> None:
    (tree / "methods" / "new.py").write_text("class New:\n    pass\n")
    edit("methods/__init__.py", "{", '{"new": "pointlift.methods.new:New", ')(tree)


def move(tree: Path, old: str = "nn/layers.py", new: str = "core/linear.py") -> None:
    (tree / new).parent.mkdir(exist_ok=True)
    (tree / old).rename(tree / new)
    edit("models/mlp.py", "from pointlift.nn import layers", "from pointlift.core import linear")(tree)
    edit("models/mlp.py", "layers.Linear", "linear.Linear")(tree)


def move_network(tree: Path) -> None:
    (tree / "models" / "points").mkdir()
    (tree / "models" / "mlp.py").rename(tree / "models" / "points" / "perceptron.py")
    edit("models/factory.py", "pointlift.models.mlp:", "pointlift.models.points.perceptron:")(tree)


def move_operation(tree: Path) -> None:
    (tree / "ops" / "pool").rename(tree / "ops" / "pooling")
    for name in ("ops/pooling/__init__.py", "ops/pooling/api.py", "methods/fit.py"):
        edit(name, "pointlift.ops.pool", "pointlift.ops.pooling")(tree)


SAME: dict[str, Callable[[Path], None]] = {
    "a comment": edit("ops/pool/cpu.py", "    return", "    # the largest\n    return"),
    "a docstring": edit("nn/layers.py", "    size", '    """A layer."""\n\n    size'),
    "a docstring of a file": edit("methods/fit.py", "Trains.", "Trains a network."),
    "a moved module": move,
    "a moved network": move_network,
    "a moved operation": move_operation,
    "imports in another order": edit(
        "models/__init__.py", "create_model, list_models\n", "list_models, create_model\n"
    ),
    "__all__": edit("models/__init__.py", "['create_model', ", "["),
    "a new network": add_network,
    "a new reader": add_reader,
    "a new method": add_method,
    "another network": edit("nn/kernels.py", "3", "5"),
    "another reader": edit("data/sources/balls.py", "1", "2"),
    "another method": edit("methods/teach.py", "pass", "lr = 1"),
    "a report": edit("report/page.py", "return recipe", "return str(recipe)"),
}
OTHER: dict[str, Callable[[Path], None]] = {
    "the operation": edit("ops/pool/cpu.py", "max", "min"),
    "the method": edit("methods/fit.py", "recipe.name", "recipe.network"),
    "the named network": edit("models/mlp.py", "made_of", "consists_of"),
    "a layer of the named network": edit("nn/layers.py", "3", "4"),
    "the named reader": edit("data/sources/cubes.py", "6", "7"),
    "the runner": edit("runs/run.py", "write(recipe)", "write(recipe.name)"),
    "what makes networks": edit("models/factory.py", "attribute)()", "attribute)"),
    "another module behind a name": edit(
        "models/mlp.py", "pointlift.nn import layers", "pointlift.nn import kernels as layers"
    ),
    "another code behind a name": edit(
        "models/factory.py", "pointlift.models.mlp:MLP", "pointlift.models.conv:Conv"
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_what_leaves_a_key_as_it_is(tree: Path, name: str) -> None:
    before = key(tree)
    SAME[name](tree)
    assert key(tree) == before


@pytest.mark.parametrize("name", OTHER)
def test_what_changes_a_key(tree: Path, name: str) -> None:
    before = key(tree)
    OTHER[name](tree)
    assert key(tree) != before


def test_runs_of_other_networks_readers_and_methods_have_other_keys(tree: Path) -> None:
    others = [
        {"model": {"image_model": "conv"}, "data": RECIPE["data"]},
        {"model": RECIPE["model"], "data": {"source": "balls:x"}},
    ]
    assert len({key(tree), *(key(tree, other) for other in others), key(tree, RECIPE, "teach")}) == 4


def test_of_a_plain_folder_every_reader_counts(tree: Path) -> None:
    folder = {"model": {"image_model": "mlp"}, "data": {"source": "my/scans"}}
    before = key(tree, folder)
    add_reader(tree)
    assert key(tree, folder) != before


def test_a_method_and_a_network_of_the_users_own(tree: Path, tmp_path: Path) -> None:
    method, net = tmp_path / "mine.py", tmp_path / "net.py"
    method.write_text("from pointlift.nn.layers import Linear\n\n\nclass Mine(Linear):\n    pass\n")
    net.write_text("from pointlift.nn.kernels import Kernel\n\n\ndef build():\n    return Kernel()\n")
    content = {"model": {"image_model": f"{net}:build"}}
    seen = [CodeFingerprints(tree).of_run(f"{method}:Mine", content)]
    for name, old, new in (("nn/layers.py", "3", "4"), ("nn/kernels.py", "3", "4")):
        edit(name, old, new)(tree)
        seen.append(CodeFingerprints(tree).of_run(f"{method}:Mine", content))
    method.write_text(method.read_text().replace("pass", "size = 5"))
    seen.append(CodeFingerprints(tree).of_run(f"{method}:Mine", content))
    assert len(set(seen)) == 4
    net.write_text("def build(:")
    CodeFingerprints(tree).of_run(f"{method}:Mine", content)  # the run itself says what is wrong with it


def test_what_a_recipe_names() -> None:
    words = named_in(
        {
            "data": {"source": "pixels:imagenet:{data}/i?crop=8"},
            "teacher": {"image_model": "resnet18.a1_in1k"},
            "seed": 0,
        }
    )
    assert {"pixels", "imagenet", "resnet18.a1_in1k"} <= words and "point-vit" not in words
    lifted = {
        "vit_tiny_patch16_224": True,
        "resnet18": False,
        "net.py:build": True,
        "torchvision:resnet18": False,
    }
    for image_model, expected in lifted.items():
        assert (
            "point-vit" in named_in({"model": {"image_model": image_model, "network": "auto"}})
        ) == expected


def test_code_counts_but_not_its_comments() -> None:
    def fingerprint_of(code: str) -> str:
        return "".join(syntax(ast.parse(code)))

    plain = fingerprint_of("def f(x):\n    return x + 1\n")
    assert (
        fingerprint_of('"""Doc."""\n\n\ndef f( x ):  # why\n    """What.\n\n    More."""\n    return (x+1)\n')
        == plain
    )
    assert fingerprint_of("def f(x):\n    return x + 2\n") != plain
    assert fingerprint_of("def f(x: int):\n    return x + 1\n") != plain
    assert fingerprint_of('x = ("a", "b")') != fingerprint_of('x = ("ab",)')
    assert fingerprint_of('x = "pointlift.nn.pool:mean"') == fingerprint_of('x = "pointlift.nn.pooling:mean"')
    assert fingerprint_of('x = "pointlift.nn.pool:mean"') != fingerprint_of('x = "pointlift.nn.pool:max"')


# ----------------------------------------------------------------------------------------------- this package


CODES = code_fingerprints.this_package()
DEMO = {
    "model": {"image_model": "fractal_resnet", "network": "auto"},
    "data": {"source": "procedural:shapes"},
}


def test_what_training_reaches_and_what_not() -> None:
    reached = CODES.reachable([CODES.methods["image2point"]], named_in(DEMO))
    for part in (
        "inflation.rules",
        "ops.sparse_conv.cpu",
        "ops.kernel_map.reference",
        "data.transforms",
        "core.grid",
        "nn.conv",
    ):
        assert f"pointlift.{part}" in reached
    for part in (
        "commands.",
        "report.",
        "tables.",
        "runs.recipes",
        "methods.image_pretraining",
        "methods.pointcmt",
    ):
        assert not [name for name in reached if name.startswith(f"pointlift.{part}")]
    assert CODES.of_run("image2point", DEMO) != CODES.of_run("image_pretraining", DEMO)


def test_all_named_modules_exist_here() -> None:
    for name in (*code_fingerprints.MEASURES, *code_fingerprints.UNRELATED, code_fingerprints.RUNNER):
        assert CODES.file(name), name


def test_other_networks_readers_and_methods_of_this_package_do_not_count() -> None:
    reached = CODES.reachable([CODES.methods["image2point"], code_fingerprints.RUNNER], named_in(DEMO))
    for part in ("points.dgcnn", "points.pointmlp", "images.bagnet", "voxels.linear_network"):
        assert f"pointlift.models.{part}" not in reached
    for part in ("modelnet", "scanobjectnn", "shapenetpart", "mesh_folder", "pixels"):
        assert f"pointlift.data.sources.{part}" not in reached
    assert {"pointlift.models.images.fractal_resnet", "pointlift.data.sources.procedural_shapes"} <= set(
        reached
    )


def test_a_moved_operation_and_a_moved_network_of_this_package(tmp_path: Path) -> None:
    root = Path(
        shutil.copytree(
            CODES.root, tmp_path / "pointlift", ignore=shutil.ignore_patterns("__pycache__", "recipes")
        )
    )
    before = CODES.of_run("image2point", DEMO)  # of the package where it lies, which does not count
    moves = {
        "pointlift.ops.sparse_conv": "pointlift.ops.convolution",
        "pointlift.nn.conv": "pointlift.nn.sparse_layers",
    }
    for old, new in moves.items():
        place, target = (root.joinpath(*name.split(".")[1:]) for name in (old, new))
        place.rename(target) if place.is_dir() else place.with_suffix(".py").rename(target.with_suffix(".py"))
    for file in root.rglob("*.py"):
        code = file.read_text(encoding="utf-8")
        for old, new in moves.items():
            code = re.sub(rf"{re.escape(old)}(?!\w)", new, code)
        file.write_text(code, encoding="utf-8")
    assert CodeFingerprints(root).of_run("image2point", DEMO) == before
