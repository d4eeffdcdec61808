"""From the words of a command line to a function call, and from an exception to a sentence for the user."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import errno
import inspect
import os
import re
import sys
import typing
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Command", "UsageError", "explain", "overview", "parse_command", "plain_warnings"]

class UsageError(ValueError):
    """A command line that cannot be understood."""


@dataclass(frozen=True)
class Command:
    """A command: its function, its positional arguments ('+' takes several, '?' may be left out), examples for the end of --help."""

    function: Callable[..., int]
    positional: dict[str, str | None] = field(default_factory=dict)
    examples: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """The first sentence of the function's documentation."""
        return inspect.cleandoc(self.function.__doc__ or "").split("\n\n")[0].replace("\n", " ")

    @property
    def description(self) -> str:
        """The documentation up to the arguments."""
        return inspect.cleandoc(self.function.__doc__ or "").split("\nArgs:")[0].strip()


def overview(commands: dict[str, Command], version: str) -> str:
    """What `pointlift --help` prints."""
    rows = "\n".join(_wrapped(name, c.summary) for name, c in commands.items())
    return f"""pointlift {version}: turns networks that were trained on images into networks that understand point clouds.

usage: pointlift COMMAND ...        pointlift COMMAND --help        pointlift --version

{rows}

start here:
  pointlift doctor                                       is everything in place?
  pointlift demo                                         the whole idea, offline, a few minutes
  pointlift fit image2point/your_own_folder.yaml --data.source folder:my_scans
  pointlift predict runs/your_own_folder/model.safetensors new_scan.ply
"""


def _wrapped(name: str, text: str) -> str:
    import textwrap

    return textwrap.fill(text, 100, initial_indent=f"  {name:<13} ", subsequent_indent=" " * 16)


def parse_command(arguments: Sequence[str], commands: dict[str, Command]) -> Callable[[], int]:
    """The call that a command line asks for; asking for help is a call that prints it.

    Raises UsageError for unknown commands and options (with the nearest name), missing arguments and values of another type.
    """
    words = list(arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        return lambda: _print(overview(commands, _version()))
    if words[0] in ("--version", "-V", "version"):
        return lambda: _print(f"pointlift {_version()}\n")
    name, rest = _command_name(words, commands)
    command = commands[name]
    if name == "fit":
        return _fit_call(command, rest)
    parser = _parser(name, command)
    if "-h" in rest or "--help" in rest:
        return lambda: _print(parser.format_help())
    options = [a for a in inspect.signature(command.function).parameters if a not in command.positional]
    values = _parse(parser, spell_out_flags(rest, _flags(command.function)), name, options)
    return lambda: command.function(**values)


def spell_out_flags(words: Sequence[str], flags: set[str]) -> list[str]:
    """`--flag` alone means `--flag true` for the options that are true or false."""
    result = []
    for i, word in enumerate(words):
        following = words[i + 1].lower() if i + 1 < len(words) else ""
        bare = word.startswith("--") and word[2:] in flags and following not in ("true", "false", "yes", "no", "null")
        result.append(f"{word}=true" if bare else word)
    return result


def _flags(function: Callable[..., Any]) -> set[str]:
    hints = typing.get_type_hints(function)
    return {name for name, kind in hints.items() if name != "return" and (kind is bool or bool in typing.get_args(kind))}


def _command_name(words: list[str], commands: dict[str, Command]) -> tuple[str, list[str]]:
    two = " ".join(words[:2])
    if two in commands:
        return two, words[2:]
    if words[0] in commands:
        return words[0], words[1:]
    family = [n for n in commands if n.startswith(f"{words[0]} ")]
    if family:
        asked = words[1] if len(words) > 1 else ""
        if asked in ("", "-h", "--help"):
            listed = "; ".join(f"{n}: {commands[n].summary}" for n in family)
            raise UsageError(f"{words[0]} needs one more word. {listed}")
        close = difflib.get_close_matches(asked, [n.split()[1] for n in family], n=1, cutoff=0.5)
        hint = f"did you mean {words[0]} {close[0]}?" if close else f"expected one of {', '.join(family)}"
        raise UsageError(f"unknown command {words[0]} {asked}, {hint}")
    close = difflib.get_close_matches(words[0], list(commands), n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(commands)}"
    raise UsageError(f"unknown command {words[0]}, {hint} (pointlift --help lists them)")


def _parser(name: str, command: Command) -> Any:
    import jsonargparse

    help_texts = _argument_help(command.function)
    hints = typing.get_type_hints(command.function)
    examples = "".join(f"  {line}\n" for line in command.examples)
    ways = {None: "{}", "+": "{} ...", "?": "[{}]"}
    places = [ways[several].format(p.upper()) for p, several in command.positional.items()]
    parser = jsonargparse.ArgumentParser(
        prog=f"pointlift {name}",
        description=command.description,
        epilog=f"examples:\n{examples}",
        formatter_class=_formatter(),
        exit_on_error=False,
    )
    for argument, parameter in inspect.signature(command.function).parameters.items():
        text, kind = help_texts[argument], hints[argument]
        if argument in command.positional:
            extra: dict[str, Any] = {} if command.positional[argument] is None else {"nargs": command.positional[argument]}
            parser.add_argument(argument, type=str, metavar=argument.upper(), help=text, **extra)
            continue
        required = parameter.default is parameter.empty
        if required:
            places.append(f"--{argument} {argument.upper()}")
        several, kind = _element_type(kind)
        nargs: dict[str, Any] = {"nargs": "+"} if several else {}
        parser.add_argument(
            f"--{argument}",
            type=kind,
            required=required,
            default=None if required else parameter.default,
            help=text.rstrip(".") + _note(required, parameter.default),
            **nargs,
        )
    parser.usage = " ".join([f"pointlift {name}", *places, "[options]"])
    return parser


def _formatter() -> type[argparse.HelpFormatter]:
    import jsonargparse

    class Formatter(jsonargparse.DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
        """Description and examples as they are written, no types of Python."""

        def __init__(self, prog: str, **options: Any) -> None:
            super().__init__(prog, **{**options, "max_help_position": 26, "width": 110})

        def _get_help_string(self, action: argparse.Action) -> str:
            return action.help or ""

        def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
            return action.dest.upper()

    return Formatter


def _element_type(kind: Any) -> tuple[bool, Any]:
    """Whether an option takes several values, and the type of one: `list[str] | None` -> (True, str)."""
    for part in (kind, *typing.get_args(kind)):
        if typing.get_origin(part) is list:
            return True, typing.get_args(part)[0]
    return False, kind


def _note(required: bool, default: Any) -> str:
    """What --help says behind the text of an option."""
    if required:
        return " (required)"
    return "" if default is None else f" (default: {str(default).lower() if isinstance(default, bool) else default})"


def _argument_help(function: Callable[..., Any]) -> dict[str, str]:
    """The text of each entry under `Args:` of a docstring."""
    entries = re.findall(r"^    (\w+): (.*(?:\n {6,}.*)*)", inspect.cleandoc(function.__doc__ or "").partition("Args:")[2], re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def _parse(parser: Any, words: Sequence[str], name: str, options: list[str]) -> dict[str, Any]:
    import jsonargparse

    for word in words:
        option = word[2:].partition("=")[0]
        if word.startswith("--") and len(word) > 2 and option not in options:
            close = difflib.get_close_matches(option, options, n=1, cutoff=0.5)
            hint = f"did you mean --{close[0]}?" if close else f"{name} has {', '.join('--' + o for o in options) or 'no options'}"
            raise UsageError(f"unknown option --{option}, {hint}")
    try:
        return dict(parser.parse_args(list(words)).as_dict())
    except (jsonargparse.ArgumentError, TypeError) as error:
        raise UsageError(f"{_one_sentence(str(error))} (pointlift {name} --help shows how it is called)") from None


def _one_sentence(message: str) -> str:
    """jsonargparse's several lines as one, in the words of the command line."""
    text = " ".join(message.split())
    required = re.search(r'"?(\w+)"? is required', text) or re.search(r"the following arguments are required: (.*)", text)
    if required:
        return f"the argument {required.group(1).replace(', ', ' and ')} is missing"
    match = re.match(r'Parser key "([\w.]+)": (.*)', text)
    if not match:
        return text
    key, rest = match.groups()
    got = re.search(r"(?:Got value|Given value): (.*?)$", rest)
    wanted = re.search(r"Expected a (?:<class '(\w+)'>|typing\.Literal\[(.*?)\]|(\S+))", rest)
    if got and wanted:
        kinds = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "NoneType": "nothing"}
        expected = f"one of {wanted.group(2)}" if wanted.group(2) else kinds.get(wanted.group(1) or wanted.group(3), wanted.group(0))
        return f"--{key} is {got.group(1)!r}, expected {expected}"
    return f"--{key}: {rest}"


def _fit_call(command: Command, words: list[str]) -> Callable[[], int]:
    """fit has the options of its recipe's method, so only its own three are read here."""
    own = {"--resume", "--print_config", "-h", "--help"}
    asked = {w for w in words if w in own}
    others = [w for w in words if w not in own]
    has_recipe = bool(others) and not others[0].startswith("--")
    if asked & {"-h", "--help"}:
        return lambda: _print(_fit_help(command, others[0] if has_recipe else None))
    if not has_recipe:
        raise UsageError("fit needs a recipe as its first word, e.g. pointlift fit image2point/demo.yaml (pointlift fit --help lists them)")
    return lambda: command.function(others[0], others[1:], resume="--resume" in asked, print_config="--print_config" in asked)


def _fit_help(command: Command, recipe: str | None) -> str:
    from pointlift.runs.recipe_files import list_recipes

    shipped = "".join(f"  {name}\n" for name in list_recipes())
    head = f"usage: pointlift fit RECIPE [--key value ...] [--resume] [--print_config]\n\n{command.description}\n\n"
    options = "".join(f"  {name:<14}{text}\n" for name, text in _argument_help(command.function).items())
    examples = "".join(f"  {line}\n" for line in command.examples)
    tail = f"recipes that ship with pointlift:\n{shipped}\nexamples:\n{examples}"
    if recipe is None:
        return f"{head}{options}\n{tail}\nThe keys of one recipe: pointlift fit RECIPE --help\n"
    from pointlift.runs.recipes import recipe_help

    return f"{head}{options}\n{recipe_help(recipe)}"


def _print(text: str) -> int:
    print(text, end="" if text.endswith("\n") else "\n")
    return 0


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("pointlift")
    except metadata.PackageNotFoundError:  # run from a source tree that is not installed
        return "(not installed)"


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Warnings of pointlift as one sentence on stderr, without the line of code; everybody else's as Python shows them."""

    def show(message: Warning | str, category: type[Warning], filename: str, *where: Any, **options: Any) -> None:
        if f"{os.sep}pointlift{os.sep}" in filename and category is UserWarning:
            print(f"pointlift: warning: {message}", file=sys.stderr)
        else:
            shown(message, category, filename, *where, **options)

    with warnings.catch_warnings():
        shown = warnings.showwarning
        warnings.showwarning = show
        yield


def explain(error: BaseException) -> str | None:
    """One sentence for an error that the user can do something about; None for a programming error."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        where = f" ({error.filename})" if error.filename else ""
        return f"the disk is full{where}; nothing half written was kept, free some space and run again"
    if isinstance(error, OSError):
        if type(error).__str__ is OSError.__str__ and error.strerror:
            return f"{error.filename}: {error.strerror.lower()}" if error.filename else error.strerror.lower()
        return text or type(error).__name__
    if isinstance(error, ValueError):  # what every part of pointlift raises for input it cannot use
        return text or type(error).__name__
    kind = type(error)
    full_name = f"{kind.__module__}.{kind.__qualname__}"
    if kind.__name__ in ("SafetensorError", "UnpicklingError"):
        return f"a file of weights cannot be read: {text}"
    if kind.__name__ == "OutOfMemoryError" or kind is MemoryError:
        return f"out of memory: use smaller batches, fewer points or a larger voxel size ({text[:120]})"
    if kind.__name__ == "MisconfigurationException" or full_name.endswith("backend.BackendError"):
        return text
    if kind is RuntimeError and "PytorchStreamWriter" in text:
        return f"a checkpoint could not be written, probably because the disk is full ({text[:120]})"
    return None
