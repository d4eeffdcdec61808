"""The ``kind:place?name=value&name=value`` strings that say where data come from:
taken apart, and their values given types.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pointlift.data.errors import DataError
from pointlift.system.hints import did_you_mean

__all__ = ["call_reader", "refuse_unknown", "split_source", "typed_value"]

TRUE, FALSE = ("true", "1", "yes"), ("false", "0", "no")


def split_source(source: str) -> tuple[str, str, dict[str, str]]:
    """Kind ("" where there is none), place and options of a source.

    Raises:
        DataError: an option without a value.
    """
    head, _, query = source.partition("?")
    kind, colon, place = head.partition(":")
    options: dict[str, str] = {}
    for item in filter(None, query.split("&")):
        name, equals, value = item.partition("=")
        if not name or not equals:
            raise DataError(f"the source {source!r} has the option {item!r}, name=value is expected")
        options[name] = value
    return (kind, place, options) if colon else ("", head, options)


def refuse_unknown(title: str, given: Sequence[str], known: Sequence[str]) -> None:
    """DataError, with the nearest name, for the first option of ``given`` that is not ``known``."""
    for name in given:
        if name not in known:
            hint = did_you_mean(name, known, quoted=True) or f"known are {', '.join(known)}"
            raise DataError(f"{title}: unknown option {name!r}, {hint}")


def typed_value(kind: Any, name: str, value: Any) -> Any:
    """A value from a source string as the type that the reader declares; values that are no strings pass.

    kind: ``str``, ``int``, ``float``, ``bool``, an optional one of these, a Literal of texts,
    or a sequence of texts, which commas divide.

    Raises:
        DataError: a text that is no such value.
    """
    if not isinstance(value, str) or kind is str:
        return value
    choices = typing.get_args(kind)
    if typing.get_origin(kind) is Sequence and str in choices:
        return tuple(filter(None, value.split(",")))
    if typing.get_origin(kind) is typing.Literal:
        if value not in choices:
            raise DataError(f"the option {name}={value} should be one of {', '.join(map(str, choices))}")
        return value
    if choices:  # int | None and the like
        return typed_value(next(c for c in choices if c is not type(None)), name, value)
    if kind is bool:
        if value.lower() not in TRUE + FALSE:
            raise DataError(f"the option {name}={value} should be true or false")
        return value.lower() in TRUE
    try:
        return kind(value)
    except ValueError:
        raise DataError(
            f"the option {name}={value} should be a {'whole ' if kind is int else ''}number"
        ) from None


def call_reader(
    read: Callable[..., Any],
    title: str,
    options: Mapping[str, Any],
    place: Any,
    fixed: Mapping[str, Any],
    defaults: Mapping[str, Any],
) -> Any:
    """Call a reader with the options it takes, converted to the types it declares.

    Args:
        read: takes the place first; where it has ``**options``,
            others than those it names are passed on as they are.
        title: what is read, for messages.
        options: of the source.
        place: what is read.
        fixed: arguments that are no options.
        defaults: options where the source has none, if the reader takes them.

    Raises:
        DataError: an option that the reader does not take, or of another type.
    """
    parameters = inspect.signature(read).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    known = [
        name for name, p in list(parameters.items())[1:] if name not in fixed and p.kind is not p.VAR_KEYWORD
    ]
    if not takes_any:
        refuse_unknown(title, list(options), known)
    hints = typing.get_type_hints(read)
    values = {
        name: typed_value(hints.get(name, str), name, value) if name in known else value
        for name, value in options.items()
    }
    return read(
        place, **fixed, **{**{name: value for name, value in defaults.items() if name in known}, **values}
    )
