"""Where recipes are and how their YAML is read: strictly,
with one sentence for everything that is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from pointlift.system.hints import near

__all__ = ["RecipeError", "find_recipe", "flatten", "list_recipes", "nearest", "read_yaml"]

SUFFIXES = (".yaml", ".yml")


class RecipeError(ValueError):
    """A recipe that cannot be used; the message is one sentence saying what, where and how to fix it."""


class _StrictLoader(yaml.SafeLoader):
    """YAML without repeated keys, and with 1e-4 as a number (YAML 1.1 asks for 1.0e-4)."""


_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+$|^[-+]?\.\d+[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def _unique_mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise RecipeError(
                f"line {key_node.start_mark.line + 1}: the key {key!r} is not text, "
                "expected a name such as lr"
            )
        if key in seen:
            raise RecipeError(
                f"line {key_node.start_mark.line + 1}: the key {key} is given twice, keep one of them"
            )
        seen.add(key)
    content: dict[Any, Any] = loader.construct_mapping(node, deep=True)
    return content


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises RecipeError where it is no mapping,
    has a repeated key or is no YAML.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from None
    except UnicodeDecodeError:
        raise RecipeError(f"{path}: is not text, a YAML recipe is expected") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" at line {mark.line + 1}, column {mark.column + 1}"
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise RecipeError(f"{path}: is not valid YAML{where}: {problem}") from None
    if content is None:
        raise RecipeError(f"{path}: is empty, a recipe with the key 'method' is expected")
    if not isinstance(content, dict):
        raise RecipeError(
            f"{path}: holds a {type(content).__name__}, a mapping of keys to values is expected"
        )
    return content


def list_recipes() -> list[str]:
    """Names of the recipes that ship with pointlift, such as 'image2point/demo.yaml',
    in alphabetical order; tables are none of them.
    """
    root = Path(str(resources.files("pointlift") / "recipes"))
    found = [p.relative_to(root) for p in root.rglob("*") if p.suffix in SUFFIXES]
    return sorted(p.as_posix() for p in found if p.parts[0] != "tables")


def find_recipe(name: str) -> Path:
    """The file of a recipe: a path, or the name of one that ships with pointlift,
    with or without 'recipes/' and the suffix.

    Raises RecipeError, with the nearest names, where there is none.
    """
    file = Path(name)
    if file.is_file():
        return file
    if file.is_dir():
        raise RecipeError(f"{name}: is a folder, a recipe file is expected")
    shipped = list_recipes()
    short = file.as_posix().removeprefix("./").removeprefix("recipes/")
    for candidate in (short, f"{short}.yaml"):
        if candidate in shipped:
            return Path(str(resources.files("pointlift") / "recipes")) / candidate
    close = near(short, shipped, 3, cutoff=0.5) or [s for s in shipped if Path(short).stem in s][:3]
    hint = (
        f"did you mean {' or '.join(close)}?"
        if close
        else "the shipped ones are listed by: pointlift fit --help"
    )
    raise RecipeError(
        f"{name}: there is no such recipe, neither here nor among the {len(shipped)} that ship with "
        f"pointlift; {hint}"
    )


def flatten(tree: dict[str, Any], prefix: str = "", leaves: Iterable[str] = ()) -> dict[str, Any]:
    """{'optim.lr': 0.1, ...}: nested mappings with dotted keys; the keys in `leaves` keep their mappings."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and name not in leaves:
            flat.update(flatten(value, f"{name}.", leaves))
            if not value:
                flat[name] = value
        else:
            flat[name] = value
    return flat


def nearest(key: str, known: Sequence[str]) -> str:
    """The words that help whoever wrote an unknown `key`:
    the nearest of the `known` dotted keys, else the keys of its group.
    """
    group, _, leaf = key.rpartition(".")
    members = [k for k in known if k.rpartition(".")[0] == group]
    inside = near(leaf, [k.rpartition(".")[2] for k in members])
    if inside:
        return f"did you mean {f'{group}.' if group else ''}{inside[0]}?"
    leaves = {k.rpartition(".")[2]: k for k in reversed(known)}
    elsewhere = [leaves[n] for n in near(leaf, leaves, cutoff=0.75)]
    if not members:
        elsewhere = near(key, known, cutoff=0.75) or elsewhere
    if elsewhere:
        return f"did you mean {elsewhere[0]}?"
    expected = members if group and members else sorted({k.partition(".")[0] for k in known})
    return f"expected one of {', '.join(expected)}"
