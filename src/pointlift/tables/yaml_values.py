"""The kinds of values in a YAML file, checked; every complaint names the file and the place in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pointlift.runs.recipe_files import RecipeError, nearest

__all__ = ["YamlValues"]


class YamlValues:
    """Raises RecipeError, one sentence, for a value that is not of the kind asked for.
    where: the value's place in the file.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def fail(self, text: str) -> RecipeError:
        return RecipeError(f"{self.file}: {text}")

    def keys(
        self, given: Mapping[str, Any], known: Sequence[str], where: str, required: Sequence[str] = ()
    ) -> None:
        for key in given:
            if key not in known:
                raise self.fail(f"{where} has the unknown key {key}, {nearest(str(key), list(known))}")
        for key in required:
            if key not in given:
                raise self.fail(f"{where} has no {key}")

    def pair(self, value: Any, names: tuple[list[str], list[str]], where: str) -> tuple[str, str]:
        pair = self.sequence(value, where)
        if len(pair) != 2:
            raise self.fail(f"{where} has {value!r}, [row, column] is expected")
        self.known(pair[0], names[0], where)
        self.known(pair[1], names[1], where)
        return pair[0], pair[1]

    def known(self, name: Any, names: list[str], where: str) -> None:
        if name not in names:
            raise self.fail(
                f"{where} names {name!r}, which is no row or column there, {nearest(str(name), names)}"
            )

    def mapping(self, value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.fail(f"{where} is {value!r}, a mapping of keys to values is expected")
        return value

    def sequence(self, value: Any, where: str) -> list[Any]:
        if value is not None and not isinstance(value, list):
            raise self.fail(f"{where} is {value!r}, a list is expected")
        return value or []

    def count(self, value: Any, where: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.fail(f"{where} is {value!r}, expected a whole number of at least 1")
        return value

    def text(self, value: Any, where: str) -> str:
        if not isinstance(value, str):
            raise self.fail(f"{where} is {value!r}, text is expected (numbers in quotes)")
        return value
