"""Resolving recipes: strict keys, types in words, overrides, and YAML that round-trips."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import yaml

from pointlift.methods import METHODS
from pointlift.methods.base import Experiment, Place, Training
from pointlift.runs.recipe_files import RecipeError, list_recipes
from pointlift.runs.recipes import (
    Recipe,
    argument_types,
    describe,
    load_recipe,
    recipe_help,
    resolve,
    resolve_recipe,
)


@dataclass(frozen=True)
class Model:
    name: str = "resnet18"
    rule: Literal["repeat", "mean"] = "repeat"
    stages: list[int] | None = None


@dataclass(frozen=True)
class Optim:
    lr: float = 0.1
    nesterov: bool = False

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"optim: lr is {self.lr}, expected more than 0.")


@dataclass(frozen=True)
class Train(Experiment):
    """A method as recipes see it."""

    method: ClassVar[str] = "train"
    out: ClassVar[str] = "runs/x"

    model: Model = Model()
    optim: Optim = Optim()
    seed: int = 0

    def build(self, place: Place) -> Training:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "train", f"{__name__}:Train")


def run(content: dict[str, Any], *overrides: str) -> Recipe:
    return resolve("train", content, overrides, "my.yaml")


def test_values_and_defaults_reach_the_method(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = run({"model": {"stages": [1, 2]}, "optim": {"lr": 1}, "seed": 4})
    expected = Train(Model(stages=[1, 2]), Optim(lr=1.0), 4)
    assert recipe.experiment == expected and recipe.out == "runs/x"
    assert isinstance(recipe.experiment.optim.lr, float)  # type: ignore[attr-defined]
    monkeypatch.setattr("pointlift.runs.run.run", lambda *given: given)
    assert recipe.run() == (expected, "runs/x", False, "train")
    assert recipe.run("there", resume=True, seed=5) == (replace(expected, seed=5), "there", True, "train")


def test_overrides_win_and_leave_the_rest() -> None:
    words = ["--optim.lr", "0.01", "--model.rule=mean", "--seed", "7", "--model.stages", "[1, 3]"]
    recipe = run({"optim": {"lr": 0.5, "nesterov": True}}, *words)
    assert recipe.experiment == Train(Model(rule="mean", stages=[1, 3]), Optim(0.01, True), 7)


def test_one_recipe_leaves_nothing_for_the_next() -> None:
    """The parser of a method is made once."""
    before = resolve_recipe("image2point/demo.yaml")
    other = resolve_recipe(
        "image2point/modelnet40_resnet18_io.yaml", ["--optim.lr", "0.7", "--model.load_stages", "[1]"]
    )
    assert other.resolved["optim"]["lr"] == 0.7 and other.resolved["model"]["load_stages"] == [1]
    other.resolved["model"]["image_options"] = {"changed": 1}
    with pytest.raises(RecipeError):
        resolve_recipe("image2point/demo.yaml", ["--optim.epochs", "many"])
    after = resolve_recipe("image2point/demo.yaml")
    assert (after.resolved, after.experiment) == (before.resolved, before.experiment)


def test_a_negative_number_is_a_value_not_an_option() -> None:
    assert run({}, "--seed", "-3").resolved["seed"] == -3


def test_printed_recipe_resolves_to_itself() -> None:
    recipe = run({"model": {"stages": None}}, "--optim.lr", "1e-4")
    content = yaml.safe_load(recipe.to_yaml())
    assert content.pop("method") == "train"
    assert content == {
        "model": {"name": "resnet18", "rule": "repeat", "stages": None},
        "optim": {"lr": 1e-4, "nesterov": False},
        "seed": 0,
        "out": "runs/x",
    }
    assert run(content).experiment == recipe.experiment


@pytest.mark.parametrize(
    ("content", "overrides", "sentence"),
    [
        ({"optim": {"lrr": 1}}, (), "my.yaml: unknown key optim.lrr, did you mean optim.lr?"),
        ({"model": {"nam": "x"}}, (), "my.yaml: unknown key model.nam, did you mean model.name?"),
        ({"sed": 1}, (), "my.yaml: unknown key sed, did you mean seed?"),
        ({"resume": True}, (), "my.yaml: unknown key resume"),
        ({"optim": {"lr": "fast"}}, (), "my.yaml: optim.lr is 'fast', expected a number"),
        ({"model": {"name": 3}}, (), "my.yaml: model.name is 3, expected text"),
        ({"model": {"rule": "T9"}}, (), "my.yaml: model.rule is 'T9', expected one of repeat, mean"),
        (
            {"model": {"stages": [1, "b"]}},
            (),
            "my.yaml: model.stages is [1, 'b'], expected a list of whole numbers or null",
        ),
        ({"seed": 1.5}, (), "my.yaml: seed is 1.5, expected a whole number"),
        ({"optim": {"nesterov": "maybe"}}, (), "my.yaml: optim.nesterov is 'maybe', expected true or false"),
        (
            {"model": "resnet18"},
            (),
            "my.yaml: model is 'resnet18', expected a group of keys (name, rule, stages)",
        ),
        ({"optim": None}, (), "my.yaml: optim is None, expected a group of keys (lr, nesterov)"),
        ({"optim": {"lr": {"a": 1}}}, (), "my.yaml: optim.lr is {'a': 1}, expected a number"),
        (
            {"model": {"stages": "None"}},
            (),
            "my.yaml: model.stages is the text 'None', write null for no value",
        ),
        ({}, ("--optim.lrr", "1"), "unknown option --optim.lrr, did you mean --optim.lr?"),
        ({}, ("--optim.lr", "fast"), "the command line: optim.lr is 'fast', expected a number"),
        ({}, ("--optim.lr",), "--optim.lr has no value, expected a number"),
        ({}, ("optim.lr", "1"), "'optim.lr' does not belong to an option"),
        ({}, ("--model.rule=T9",), "the command line: model.rule is 'T9', expected one of repeat, mean"),
        ({}, ("--optim.lr", "0.1", "0.2"), "'0.2' does not belong to an option"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    content: dict[str, Any], overrides: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        run(content, *overrides)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_values_that_the_method_refuses_keep_its_own_sentence() -> None:
    with pytest.raises(ValueError, match=r"^optim: lr is -1\.0, expected more than 0\.$"):
        run({"optim": {"lr": -1}})


def test_types_in_words() -> None:
    kinds = argument_types("train")
    assert list(kinds) == [
        "model.name",
        "model.rule",
        "model.stages",
        "optim.lr",
        "optim.nesterov",
        "seed",
        "out",
    ]
    assert describe(int | str) == "a whole number or text"
    assert describe(dict[str, int]) == "a mapping of keys to values"
    assert describe(tuple[float, ...]) == "a list of numbers"
    assert describe(Path) == "a path"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("seed: 1\n", "the key 'method' is missing"),
        ("methd: image2point\n", "is it misspelled as methd?"),
        ("method: image2pont\n", "unknown method 'image2pont', did you mean image2point?"),
    ],
)
def test_method_is_needed(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(file))
    assert sentence in str(caught.value)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_exists_and_is_typed(method: str) -> None:
    kinds = argument_types(method)
    assert {"seed", "out"} <= set(kinds)
    trains = {"optim", "trainer"} if method != "image_collapse" else set()
    groups = {k.split(".")[0] for k in kinds}
    assert groups >= {"data", *trains} and groups & {"model", "teacher", "generator"}


@pytest.mark.parametrize("name", list_recipes())
def test_every_shipped_recipe_resolves_and_round_trips(name: str, tmp_path: Path) -> None:
    recipe = resolve_recipe(name)
    again = tmp_path / "again.yaml"
    again.write_text(recipe.to_yaml(), encoding="utf-8")
    assert resolve_recipe(str(again)).experiment == recipe.experiment


def test_help_names_every_key_with_its_value() -> None:
    text = recipe_help("pretrain/fractal.yaml")
    for key in argument_types("image_pretraining"):
        assert f"--{key} " in text


@pytest.mark.parametrize("method", METHODS)
def test_help_explains_every_key(method: str) -> None:
    name = next(n for n in list_recipes() if load_recipe(n)[1] == method)
    lines = recipe_help(name).splitlines()
    keys = [i for i, line in enumerate(lines) if line.startswith("  --")]
    assert len(keys) == len(argument_types(method))
    assert not [lines[i] for i in keys if not "".join(lines[i + 1 : i + 2]).startswith(" " * 8)]


def test_help_names_the_choices() -> None:
    text = " ".join(recipe_help("image2point/demo.yaml").split())
    assert "--model.stem linear (one of linear, three-conv, inflate) the input layers: linear (one" in text
    assert "--optim.momentum 0.9 (a number) of SGD; Adam's are 0.9 and 0.999. --optim.weight_decay" in text


def test_shipped_recipes_are_those_of_the_script() -> None:
    tool = Path(__file__).resolve().parents[2] / "tools" / "write_recipes.py"
    spec = importlib.util.spec_from_file_location("write_recipes", tool)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for name, text in script.recipes().items():
        assert (script.FOLDER / name).read_text(encoding="utf-8") == text, (
            f"{name}: run python tools/write_recipes.py"
        )
