"""Finding recipes and reading their YAML strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from pointlift.runs.recipe_files import (
    RecipeError,
    find_recipe,
    flatten,
    list_recipes,
    nearest,
    read_yaml,
)


def write(folder: Path, text: str) -> Path:
    file = folder / "recipe.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_scientific_notation_is_a_number(tmp_path: Path) -> None:
    """YAML 1.1 reads 1e-4 as text; here it is what everybody means."""
    content = read_yaml(write(tmp_path, "a: 1e-4\nb: 1.0e-4\nc: -2E+3\nd: .5e1\ne: 1e\nf: e4\n"))
    assert content == {"a": 1e-4, "b": 1e-4, "c": -2000.0, "d": 5.0, "e": "1e", "f": "e4"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("- a\n- b\n", "holds a list"),
        ("a: 1\nb: 2\na: 3\n", "line 3: the key a is given twice"),
        ("optim:\n  lr: 1\n  lr: 2\n", "line 3: the key lr is given twice"),
        ("1: x\n", "the key 1 is not text"),
        ("a: [1, 2\n", "is not valid YAML at line 2"),
        ("a: !!python/object/apply:os.system ['echo hacked']\n", "could not determine a constructor"),
    ],
)
def test_bad_yaml_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_yaml(write(tmp_path, text))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "recipe.yaml" in str(caught.value)


def test_binary_file_is_no_recipe(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_bytes(b"\x80\x02\xff\xfe")
    with pytest.raises(RecipeError, match="is not text"):
        read_yaml(file)


NAMES = [
    "pretrain/fractal.yaml",
    "recipes/pretrain/fractal.yaml",
    "pretrain/fractal",
    "./recipes/pretrain/fractal",
]


@pytest.mark.parametrize("name", NAMES)
def test_shipped_recipes_are_found_by_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_recipe(name).as_posix().endswith("pointlift/recipes/pretrain/fractal.yaml")


def test_a_file_here_comes_before_a_shipped_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pretrain").mkdir()
    own = tmp_path / "pretrain" / "fractal.yaml"
    own.write_text("method: image2point\n")
    assert find_recipe("pretrain/fractal.yaml").resolve() == own


def test_unknown_recipe_offers_near_names(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"did you mean pretrain/fractal\.yaml"):
        find_recipe("pretrain/fractl.yaml")
    with pytest.raises(RecipeError, match="there is no such recipe"):
        find_recipe("qqqqqq")
    with pytest.raises(RecipeError, match="is a folder"):
        find_recipe(str(tmp_path))


def test_list_holds_every_regime_of_every_network() -> None:
    names = list_recipes()
    for network in ("resnet18", "resnet50", "resnet152"):
        for regime in ("io", "io+stats", "io+bn", "all", "scratch"):
            assert f"image2point/modelnet40_{network}_{regime}.yaml" in names
    assert {"image2point/demo.yaml", "image2point/your_own_folder.yaml", "pretrain/fractal.yaml"} <= set(
        names
    )
    assert names == sorted(names)


def test_flatten_keeps_mappings_that_are_values() -> None:
    tree = {"a": {"b": 1, "c": {"d": 2}}, "e": {}, "f": {"g": 3}}
    assert flatten(tree) == {"a.b": 1, "a.c.d": 2, "e": {}, "f.g": 3}
    assert flatten(tree, leaves=["a.c", "f"]) == {"a.b": 1, "a.c": {"d": 2}, "e": {}, "f": {"g": 3}}


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("optim.lrr", "did you mean optim.lr?"),
        ("optim.weigth_decay", "did you mean optim.weight_decay?"),
        ("weight_decay", "did you mean optim.weight_decay?"),
        ("optm.lr", "did you mean optim.lr?"),
        ("optim.beta", "expected one of optim.lr, optim.weight_decay"),
        ("zzz", "expected one of optim, seed"),
    ],
)
def test_nearest(key: str, hint: str) -> None:
    assert nearest(key, ["optim.lr", "optim.weight_decay", "seed"]) == hint
