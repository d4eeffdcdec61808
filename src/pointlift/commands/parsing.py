"""From the words of a command line to a function call:
jsonargparse's subcommands, made of typed and documented functions.

Parameters before the `*` of a function are its words, those behind it its --options.
Help and examples stand in its docstring.
"""

from __future__ import annotations

import argparse
import inspect
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pointlift.system.hints import did_you_mean

__all__ = ["Commands", "UsageError", "examples", "parse", "summary"]

Commands = Mapping[str, Callable[..., int]]
HELP = ("-h", "--help")
WIDTH = 110


class UsageError(ValueError):
    """A command line that cannot be understood."""


def summary(function: Callable[..., int]) -> str:
    """The first paragraph of a docstring on one line."""
    return " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())


def examples(function: Callable[..., int]) -> list[str]:
    """The lines under `Examples:` of a docstring."""
    return [line for meta in _docstring(function).examples for line in (meta.description or "").splitlines()]


def parse(words: Sequence[str], commands: Commands) -> Callable[[], int]:
    """The call that a command line asks for. --help prints and raises SystemExit.

    Raises:
        UsageError: an unknown command or option (with the nearest name), a missing argument,
            a value of another type.
    """
    import jsonargparse

    name = next((n for n in (" ".join(words[:2]), words[0]) if n in commands), None)
    words = ["fit", *_fit_words(words[1:])] if name == "fit" else words
    try:
        found = _parser(commands).parse_args(list(words))
    except (jsonargparse.ArgumentError, TypeError) as error:
        message = " ".join(str(error).split())
        sentence = (
            _unknown_command(words, commands) if name is None else _sentence(name, commands[name], message)
        )
        raise UsageError(sentence) from None
    assert name is not None
    values = found[name.replace(" ", ".")].as_dict()
    given: list[Any] = []
    for parameter in inspect.signature(commands[name]).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            given += values.pop(parameter.name)
        elif parameter.kind is not parameter.KEYWORD_ONLY:
            given.append(values.pop(parameter.name))
    return lambda: commands[name](*given, **values)


def _fit_words(words: Sequence[str]) -> list[str]:
    """fit's own flags, then the recipe, then the options of the recipe's method,
    among which is the help on these.
    """
    own = [w for w in words if w in ("--resume", "--print_config")]
    rest = [w for w in words if w not in (*own, *HELP)]
    asked = ["--help"] if any(w in HELP for w in words) else []
    if rest and not rest[0].startswith("-"):
        return [*(f"{w}=true" for w in own), rest[0], *asked, *rest[1:]]
    if not asked:
        raise UsageError(
            "fit needs a recipe as its first word, e.g. "
            "pointlift fit image2point/demo.yaml (pointlift fit --help lists them)"
        )
    return asked


# ------------------------------------------------------------------------------------------------ parsers


def _parser(commands: Commands) -> Any:
    import jsonargparse

    settings: dict[str, Any] = {"exit_on_error": False, "formatter_class": _formatter()}
    parser = jsonargparse.ArgumentParser(prog="pointlift", **settings)
    groups = {"": parser.add_subcommands(dest="command", metavar="COMMAND")}
    for name, function in commands.items():
        family, _, last = name.rpartition(" ")
        if family not in groups:
            own = jsonargparse.ArgumentParser(usage=f"pointlift {family} COMMAND ...", **settings)
            groups[""].add_subcommand(family, own)
            groups[family] = own.add_subcommands(dest="command", metavar="COMMAND")
        groups[family].add_subcommand(last, _command_parser(name, function), help=summary(function))
    return parser


def _command_parser(name: str, function: Callable[..., int]) -> Any:
    import jsonargparse

    docstring = _docstring(function)
    texts = {p.arg_name: " ".join((p.description or "").split()) for p in docstring.params}
    hints = typing.get_type_hints(function)
    places = [f"pointlift {name}"]
    parser = jsonargparse.ArgumentParser(
        description=docstring.description,
        epilog=_epilog(name, function),
        formatter_class=_formatter(),
        exit_on_error=False,
    )
    for key, parameter in inspect.signature(function).parameters.items():
        required = parameter.default is parameter.empty
        several, kind = _element_type(hints[key])
        if parameter.kind is parameter.VAR_POSITIONAL:
            parser.add_argument(key, nargs=argparse.REMAINDER, metavar="--key value ...", help=texts[key])
            places.append("[--key value ...]")
        elif parameter.kind is not parameter.KEYWORD_ONLY:
            number: dict[str, Any] = {"nargs": "+" if several else "?"} if several or not required else {}
            number |= {} if required else {"default": parameter.default}
            parser.add_argument(key, type=str, metavar=key.upper(), help=texts[key], **number)
            places.append(
                {"+": f"{key.upper()} ...", "?": f"[{key.upper()}]"}.get(number.get("nargs", ""), key.upper())
            )
        else:
            more: dict[str, Any] = {} if required else {"default": parameter.default}
            if several:
                more |= {"nargs": "+"}
            elif bool in (kind, *typing.get_args(kind)):  # --flag alone is --flag true
                more |= {"nargs": "?", "const": True}
            text = texts[key].rstrip(".") + _note(parameter.default)
            parser.add_argument(f"--{key}", type=kind, required=required, help=text, **more)
            places += [f"--{key} {key.upper()}"] if required else []
    parser.usage = " ".join([*places, "[options]"])
    return parser


def _docstring(function: Callable[..., int]) -> Any:
    import docstring_parser

    return docstring_parser.parse(function.__doc__ or "", docstring_parser.DocstringStyle.GOOGLE)


def _epilog(name: str, function: Callable[..., int]) -> str:
    lines = "".join(f"  {line}\n" for line in examples(function))
    if name != "fit":
        return f"examples:\n{lines}"
    from pointlift.runs.recipe_files import list_recipes

    shipped = "".join(f"  {recipe}\n" for recipe in list_recipes())
    return (
        f"recipes that ship with pointlift:\n{shipped}\nexamples:\n{lines}\nThe keys of one recipe: "
        "pointlift fit RECIPE --help\n"
    )


def _formatter() -> type[argparse.HelpFormatter]:
    import jsonargparse

    class Formatter(jsonargparse.DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
        """Description and examples as they are written, no types of Python."""

        def __init__(self, prog: str, **options: Any) -> None:
            super().__init__(prog, **{**options, "max_help_position": 26, "width": WIDTH})

        def _get_help_string(self, action: argparse.Action) -> str:
            return action.help or ""

        def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
            return action.dest.upper()

    return Formatter


def _element_type(kind: Any) -> tuple[bool, Any]:
    """Whether an argument takes several values, and the type of one: `list[str] | None` -> (True, str)."""
    for part in (kind, *typing.get_args(kind)):
        if typing.get_origin(part) is list:
            return True, typing.get_args(part)[0]
    return False, kind


def _note(default: Any) -> str:
    """What --help says behind the text of an option."""
    if default is inspect.Parameter.empty:
        return " (required)"
    return (
        ""
        if default is None
        else f" (default: {str(default).lower() if isinstance(default, bool) else default})"
    )


# ------------------------------------------------------------------------------------------------ errors


def _unknown_command(words: Sequence[str], commands: Commands) -> str:
    family = [name for name in commands if name.startswith(f"{words[0]} ")]
    if not family:
        hint = did_you_mean(words[0], commands, cutoff=0.5) or f"expected one of {', '.join(commands)}"
        return f"unknown command {words[0]}, {hint} (pointlift --help lists them)"
    if len(words) < 2:
        listed = "; ".join(f"{name}: {summary(commands[name])}" for name in family)
        return f"{words[0]} needs one more word. {listed}"
    given = " ".join(words[:2])
    hint = did_you_mean(given, family, cutoff=0.5) or f"expected one of {', '.join(family)}"
    return f"unknown command {given}, {hint}"


def _sentence(name: str, function: Callable[..., int], message: str) -> str:
    """jsonargparse's message as one sentence, in the words of the command line."""
    hints = typing.get_type_hints(function)
    options = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    if unknown := re.match(r"unrecognized arguments:.*?(--[^\s=]+)", message):
        listed = ", ".join(f"--{option}" for option in options) or "no options"
        hint = (
            did_you_mean(unknown[1], [f"--{option}" for option in options], cutoff=0.5)
            or f"{name} has {listed}"
        )
        return f"unknown option {unknown[1]}, {hint}"
    shown = f"(pointlift {name} --help shows how it is called)"
    if missing := re.match(r"the following arguments are required: (.*)", message):
        return (
            f"the argument {' and '.join(key.rpartition('.')[2] for key in missing[1].split(', '))} is "
            f"missing {shown}"
        )
    if wrong := re.match(r'Parser key "([\w.]+)".*[vV]alue: (.*)$', message):
        key, value = wrong[1].rpartition(".")[2], wrong[2]
        return f"--{key} is {value!r}, expected {_in_words(_element_type(hints[key])[1])} {shown}"
    return f"{message} {shown}"


def _in_words(kind: Any) -> str:
    from pointlift.runs.recipes import describe

    choices = [part for part in (kind, *typing.get_args(kind)) if typing.get_origin(part) is Literal]
    return f"one of {', '.join(map(repr, typing.get_args(choices[0])))}" if choices else describe(kind)
