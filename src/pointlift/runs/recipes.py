"""Recipes: a YAML file is the arguments of one typed function. Load, check, resolve, run.

    method: image2point          # which function: one of METHODS
    model: {name: resnet18.a1_in1k, pretrained: true}
    optim: {lr: 0.1}
    seed: 0

Keys are strict: one that the function does not have is an error that offers the nearest name. Values keep their types.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import re
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from pointlift.runs.recipe_files import RecipeError, find_recipe, flatten, nearest, read_yaml

__all__ = ["METHODS", "Recipe", "load_recipe", "resolve_recipe"]

METHODS: dict[str, str] = {
    "image2point": "pointlift.methods.training:fit_image2point",
    "distillation": "pointlift.methods.distilling:fit_distillation",
    "view_teacher": "pointlift.methods.pointcmt.teacher_recipe:fit_view_teacher",
    "point_generator": "pointlift.methods.pointcmt.generator_recipe:fit_point_generator",
    "pointcmt": "pointlift.methods.pointcmt.recipe:fit_pointcmt",
    "part_segmentation": "pointlift.methods.segmentation.recipe:fit_part_segmentation",
    "image_pretraining": "pointlift.methods.image_pretraining.recipe:fit_image_network",
    "image_collapse": "pointlift.methods.image_collapse:measure_image_collapse",
}


@dataclass(frozen=True)
class Recipe:
    """A resolved recipe: every key has its value.

    source: the file it came from. method: key of METHODS. function: what runs it. arguments: its keyword arguments.
    resolved: the same as plain values, what `to_yaml` prints.
    """

    source: str
    method: str
    function: Callable[..., Any]
    arguments: dict[str, Any]
    resolved: dict[str, Any]

    def to_yaml(self) -> str:
        """YAML that, saved to a file, is this recipe."""
        return str(yaml.safe_dump({"method": self.method, **self.resolved}, sort_keys=False, allow_unicode=True, width=120))

    def run(self, **changes: Any) -> Any:
        """Call the method's function with the recipe's arguments, some of them changed."""
        return self.function(**{**self.arguments, **changes})


def load_recipe(name: str) -> tuple[Path, str, dict[str, Any]]:
    """File, method and content (without the method) of a recipe, unchecked but for the method."""
    file = find_recipe(name)
    content = read_yaml(file)
    if "method" not in content:
        close = nearest("method", list(content))
        raise RecipeError(
            f"{file}: the key 'method' is missing (add e.g. method: image2point; known: {', '.join(METHODS)})"
            + (f"; {close.replace('did you mean', 'is it misspelled as').rstrip('?')}?" if close.startswith("did") else "")
        )
    method = content.pop("method")
    if method not in METHODS:
        hint = nearest(str(method), list(METHODS))
        raise RecipeError(f"{file}: unknown method {method!r}, {hint}")
    return file, method, content


def resolve_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Load a recipe, apply `--key value` overrides, check every key and type and fill in what is left out.

    Raises RecipeError for unknown keys and wrong types, ValueError for values that the method's own checks refuse.
    """
    file, method, content = load_recipe(name)
    if "out" not in content and (file.parent / "protocol.json").is_file():
        content["out"] = str(file.parent)  # the recipe that a run wrote into its folder
    function = method_function(method)
    return resolve(function, method, content, overrides, str(file))


def method_function(method: str) -> Callable[..., Any]:
    """The function behind a key of METHODS; importing it brings in the training engine."""
    module, _, attribute = METHODS[method].partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return function


def recipe_help(name: str) -> str:
    """Every key of a recipe, its type and its value there, for `pointlift fit RECIPE --help`."""
    recipe = resolve_recipe(name)
    kinds = argument_types(recipe.function)
    values = flatten(recipe.resolved, leaves=kinds)
    width = max(len(k) for k in kinds) + 2
    lines = [f"  --{key:<{width}} {_shorten(values.get(key))}   ({describe(kind)})" for key, kind in kinds.items()]
    return f"keys of {recipe.source}, each with its value there:\n" + "\n".join(lines) + "\n"


def _shorten(value: Any) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def resolve(function: Callable[..., Any], method: str, content: dict[str, Any], overrides: Sequence[str], source: str) -> Recipe:
    """`resolve_recipe` for a function and a mapping that are already there."""
    import jsonargparse

    known = argument_types(function)
    groups = {k.rpartition(".")[0] for k in known} - {""}
    _check_keys(content, known, groups, source)
    _check_override_names(overrides, known)
    parser = _parser(function)
    try:
        namespace = parser.parse_object(content, defaults=True)
    except (jsonargparse.ArgumentError, TypeError, KeyError) as error:
        raise _type_error(str(error), flatten(content, leaves=known), known, source) from None
    if overrides:
        try:
            namespace = parser.parse_args(list(overrides), namespace=namespace)
        except (jsonargparse.ArgumentError, TypeError, KeyError) as error:
            raise _type_error(str(error), _override_values(overrides), known, "the command line") from None
    resolved = _plain(namespace.as_dict())
    instantiate = getattr(parser, "instantiate", None) or parser.instantiate_classes  # the name until jsonargparse 4.48
    return Recipe(source, method, function, instantiate(namespace).as_dict(), resolved)


@functools.cache  # building one takes longer than parsing with it, and parsing leaves it as it is
def _parser(function: Callable[..., Any]) -> Any:
    import jsonargparse

    parser = jsonargparse.ArgumentParser(prog="pointlift fit", exit_on_error=False)
    parser.add_function_arguments(function, skip={"resume"})
    return parser


def argument_types(function: Callable[..., Any]) -> dict[str, Any]:
    """{'optim.lr': float, ..., 'seed': int}: every dotted key of a function whose dataclass arguments are groups of keys."""
    return dict(_argument_types(function))


@functools.cache
def _argument_types(function: Callable[..., Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(function)
    found: dict[str, Any] = {}
    for name in inspect.signature(function).parameters:
        if name == "resume":
            continue
        if dataclasses.is_dataclass(hints[name]):
            fields = typing.get_type_hints(hints[name])
            found |= {f"{name}.{f.name}": fields[f.name] for f in dataclasses.fields(hints[name]) if f.init}
        else:
            found[name] = hints[name]
    return found


def describe(kind: Any) -> str:
    """A type in words: 'a number', 'one of repeat, mean', 'a list of whole numbers or null'."""
    simple = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null", Path: "a path"}
    if kind in simple:
        return simple[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(a) for a in arguments)
    if origin in (list, tuple) and arguments:
        inner = describe(arguments[0])
        words = {"a whole number": "whole numbers", "a number": "numbers", "text": "texts"}
        return f"a list of {words.get(inner, inner)}"
    if origin is dict or kind is dict:
        return "a mapping of keys to values"
    return getattr(kind, "__name__", str(kind))


def _check_keys(content: dict[str, Any], known: dict[str, Any], groups: set[str], source: str) -> None:
    leaves = [k for k in known if k not in groups]
    for key, value in flatten(content, leaves=leaves).items():
        if key in groups and not (isinstance(value, dict) and not value):
            members = ", ".join(k.partition(".")[2] for k in known if k.startswith(f"{key}."))
            raise RecipeError(f"{source}: {key} is {value!r}, expected a group of keys ({members})")
        if key not in known and key not in groups:
            raise RecipeError(f"{source}: unknown key {key}, {nearest(key, list(known))}")
        if isinstance(value, str) and value in ("None", "none") and _allows_null(known.get(key)):
            raise RecipeError(f"{source}: {key} is the text {value!r}, write null for no value")


def _allows_null(kind: Any) -> bool:
    return type(None) in typing.get_args(kind)


def _check_override_names(overrides: Sequence[str], known: dict[str, Any]) -> None:
    expects_value = False
    for token in overrides:
        if token.startswith("--"):
            key, sign, _ = token[2:].partition("=")
            if key not in known:
                raise RecipeError(f"unknown option --{key}, {nearest(key, list(known)).replace('did you mean ', 'did you mean --')}")
            expects_value = not sign
        elif expects_value:
            expects_value = False
        else:
            raise RecipeError(f"{token!r} does not belong to an option, write --optim.lr 0.01 or --model.load_stages [1,2]")


def _override_values(overrides: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for i, token in enumerate(overrides):
        if token.startswith("--"):
            key, sign, value = token[2:].partition("=")
            following = overrides[i + 1] if i + 1 < len(overrides) and not overrides[i + 1].startswith("--") else None
            values[key] = value if sign else following
    return values


def _type_error(message: str, values: dict[str, Any], known: dict[str, Any], source: str) -> RecipeError:
    """jsonargparse's message as one sentence: which key, what it is, what it should be."""
    for key in re.findall(r"[\w.]+", message):
        if key in known and key in values:
            if values[key] is None and source == "the command line":
                return RecipeError(f"--{key} has no value, expected {describe(known[key])}")
            return RecipeError(f"{source}: {key} is {values[key]!r}, expected {describe(known[key])}")
    missing = [k for k in known if re.search(rf"\b{re.escape(k)}\b", message)]
    if missing:
        return RecipeError(f"{source}: the key {missing[0]} is missing, expected {describe(known[missing[0]])}")
    return RecipeError(f"{source}: {' '.join(message.split())}")


def _plain(value: Any) -> Any:
    """Namespaces, paths, tuples and enums as what YAML can hold."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)
