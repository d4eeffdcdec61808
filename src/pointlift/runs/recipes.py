"""Recipes: a YAML file is the fields of a method's dataclass. Load, check, resolve, run.

    method: image2point          # one of METHODS, or a class of your own: my_method.py:MyMethod
    model: {name: resnet18.a1_in1k, pretrained: true}
    optim: {lr: 0.1}
    seed: 0

Keys are strict: one that the method does not have is an error that offers the nearest name.
Values keep their types.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import textwrap
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from pointlift.methods import METHODS
from pointlift.methods.base import Experiment
from pointlift.runs.recipe_files import RecipeError, find_recipe, flatten, nearest, read_yaml
from pointlift.system.own_code import OwnCodeError, load_own, named, names_own_code

__all__ = ["Recipe", "load_recipe", "method_class", "resolve_recipe"]


@dataclass(frozen=True)
class Recipe:
    """A resolved recipe: every key has its value.

    source: the file it came from. method: as the recipe names it. experiment: the method's dataclass with
    these values. out: folder of its run. resolved: the same as plain values, what `to_yaml` prints.
    """

    source: str
    method: str
    experiment: Experiment
    out: str
    resolved: dict[str, Any]

    def to_yaml(self) -> str:
        """YAML that, saved to a file, is this recipe."""
        return str(
            yaml.safe_dump(
                {"method": self.method, **self.resolved}, sort_keys=False, allow_unicode=True, width=120
            )
        )

    def run(self, out: str | Path | None = None, resume: bool = False, **changes: Any) -> Any:
        """Run the method with these values, some of them changed, in `out` or the recipe's own folder.
        Raises what `runs.run` raises.
        """
        from pointlift.runs.run import run

        return run(dataclasses.replace(self.experiment, **changes), out or self.out, resume, self.method)


def load_recipe(name: str) -> tuple[Path, str, dict[str, Any]]:
    """File, method and content (without the method) of a recipe, unchecked but for the method."""
    file = find_recipe(name)
    content = read_yaml(file)
    if "method" not in content:
        close = nearest("method", list(content))
        raise RecipeError(
            f"{file}: the key 'method' is missing (add e.g. method: image2point; known: {', '.join(METHODS)})"
            + (
                f"; {close.replace('did you mean', 'is it misspelled as').rstrip('?')}?"
                if close.startswith("did")
                else ""
            )
        )
    method = str(content.pop("method"))
    if method not in METHODS and not names_own_code(method):
        raise RecipeError(f"{file}: unknown method {method!r}, {nearest(method, list(METHODS))}")
    return file, method, content


def resolve_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Load a recipe, apply `--key value` overrides, check every key and type and fill in what is left out.

    Raises RecipeError for unknown keys and wrong types,
    ValueError for values that the method's own checks refuse.
    """
    file, method, content = load_recipe(name)
    if "out" not in content and (file.parent / "protocol.json").is_file():
        content["out"] = str(file.parent)  # the recipe that a run wrote into its folder
    return resolve(method, content, overrides, str(file))


@functools.cache
def method_class(method: str) -> type[Experiment]:
    """The dataclass behind a key of METHODS or "file.py:Class"; importing it brings in the training engine.

    Raises RecipeError for a file or class that is not there, or no method.
    """
    try:
        found = named(METHODS[method]) if method in METHODS else load_own(method, "method", "class")
    except (FileNotFoundError, OwnCodeError) as error:
        raise RecipeError(f"method {method}: {error}") from None
    if not (isinstance(found, type) and issubclass(found, Experiment) and dataclasses.is_dataclass(found)):
        raise RecipeError(
            f"method {method}: is no method, expected a dataclass derived from "
            "pointlift.methods.base.Experiment"
        )
    return found


def recipe_help(name: str) -> str:
    """Every key of a recipe, its value there, its type or choices and what it means,
    for `pointlift fit RECIPE --help`.
    """
    recipe = resolve_recipe(name)
    kinds = argument_types(recipe.method)
    values = flatten(recipe.resolved, leaves=kinds)
    width = max(len(k) for k in kinds) + 2
    texts = _texts(recipe.method)
    lines: list[str] = []
    for key, kind in kinds.items():
        lines.append(f"  --{key:<{width}} {_shorten(values.get(key))}   ({describe(kind)})")
        lines += textwrap.wrap(texts.get(key, ""), 100, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return f"keys of {recipe.source}, each with its value there:\n" + "\n".join(lines) + "\n"


def _texts(method: str) -> dict[str, str]:
    """{dotted key: what the docstring of its dataclass says of it}."""
    kind = method_class(method)
    groups = typing.get_type_hints(kind)
    seed = "of everything that is drawn at random; the same seed gives the same numbers."
    found = {"out": "folder of the run.", "seed": seed, **_attributes(kind)}
    for name in (f.name for f in dataclasses.fields(kind)):
        if dataclasses.is_dataclass(group := groups[name]):
            found |= {f"{name}.{key}": text for key, text in _attributes(typing.cast(type, group)).items()}
    return found


def _attributes(kind: type) -> dict[str, str]:
    """{field: text} of a dataclass's docstring and of those it is derived from; "a, b: text" is of both, and
    "a: text. b: text" on one line of each.
    """
    import docstring_parser

    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        written = base.__dict__.get("__doc__") or ""
        for item in docstring_parser.parse(written, docstring_parser.DocstringStyle.GOOGLE).params:
            text = " ".join((item.description or "").split())
            found |= dict.fromkeys(item.arg_name.replace(",", " ").split(), text)
    for name in (f.name for f in dataclasses.fields(kind) if f.name not in found):
        inside = (re.search(rf"\. (?:\w+, )*{name}(?:, \w+)*: (.*)", text) for text in list(found.values()))
        if (match := next(filter(None, inside), None)) is not None:
            found[name] = match[1]
    return found


def _shorten(value: Any) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def resolve(method: str, content: dict[str, Any], overrides: Sequence[str], source: str) -> Recipe:
    """`resolve_recipe` for a mapping that is already there."""
    import jsonargparse

    known = argument_types(method)
    groups = {k.rpartition(".")[0] for k in known} - {""}
    _check_keys(content, known, groups, source)
    _check_override_names(overrides, known)
    parser = _parser(method)
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
    # the name until jsonargparse 4.48
    instantiate = getattr(parser, "instantiate", None) or parser.instantiate_classes
    values = instantiate(namespace).as_dict()
    out = str(values.pop("out"))
    return Recipe(source, method, method_class(method)(**values), out, resolved)


@functools.cache  # building one takes longer than parsing with it, and parsing leaves it as it is
def _parser(method: str) -> Any:
    import jsonargparse

    parser = jsonargparse.ArgumentParser(prog="pointlift fit", exit_on_error=False)
    parser.add_class_arguments(method_class(method))
    parser.add_argument("--out", type=str, default=method_class(method).out, help="Folder of the run.")
    return parser


@functools.cache
def argument_types(method: str) -> dict[str, Any]:
    """{'optim.lr': float, ..., 'seed': int}: every dotted key of a method's recipe."""
    kind = method_class(method)
    hints = typing.get_type_hints(kind)
    found: dict[str, Any] = {}
    for item in dataclasses.fields(kind):
        group = hints[item.name]
        if dataclasses.is_dataclass(group):
            members = typing.get_type_hints(group)
            found |= {f"{item.name}.{f.name}": members[f.name] for f in dataclasses.fields(group) if f.init}
        else:
            found[item.name] = group
    return {**found, "out": str}


def describe(kind: Any) -> str:
    """A type in words: 'a number', 'one of repeat, mean', 'a list of whole numbers or null'."""
    simple = {
        int: "a whole number",
        float: "a number",
        str: "text",
        bool: "true or false",
        type(None): "null",
        Path: "a path",
    }
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
                raise RecipeError(
                    f"unknown option --{key}, "
                    f"{nearest(key, list(known)).replace('did you mean ', 'did you mean --')}"
                )
            expects_value = not sign
        elif expects_value:
            expects_value = False
        else:
            raise RecipeError(
                f"{token!r} does not belong to an option, write --optim.lr 0.01 or --model.load_stages [1,2]"
            )


def _override_values(overrides: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for i, token in enumerate(overrides):
        if token.startswith("--"):
            key, sign, value = token[2:].partition("=")
            following = (
                overrides[i + 1] if i + 1 < len(overrides) and not overrides[i + 1].startswith("--") else None
            )
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
        return RecipeError(
            f"{source}: the key {missing[0]} is missing, expected {describe(known[missing[0]])}"
        )
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
