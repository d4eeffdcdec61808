"""Which code a run's numbers depend on: its method, and the networks and readers that its recipe names, with
all that these import.

The written-out dicts from which recipes choose (CHOICES) count by the entries that a recipe names, so that a
new network, dataset or method leaves every stored result valid. Comments, docstrings, the names and places of
files, the command line and reports do not count.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from pointlift.runs.recipe_files import flatten
from pointlift.tables.fingerprint import digest, file_hash, texts

__all__ = ["CodeFingerprints", "named_in", "syntax", "this_package"]

ROOT = Path(__file__).resolve().parents[1]
# dicts {name: "module:attribute"}, of which only the entries that a recipe names are followed
CHOICES = (
    "METHODS",
    "TASKS",
    "IMAGE_NETWORKS",
    "POINT_NETWORKS",
    "LIFTED_NETWORKS",
    "SOURCES",
    "IMAGE_SOURCES",
)
LISTS = ("pointlift.methods", "pointlift.runs.recipes")  # where METHODS may stand
RUNNER = "pointlift.runs.run"  # stands above the methods, so that none of them imports it
# change no number: what prints, draws and asks, and how recipes are read,
# for the resolved one is in the key itself
UNRELATED = (
    "pointlift.report",
    "pointlift.commands",
    "pointlift.runs.recipes",
    "pointlift.runs.recipe_files",
    "pointlift.tasks.report",
)
# all of this room that makes numbers
MEASURES = ("pointlift.tables.measures", "pointlift.tables.costs", "pointlift.tables.embeddings")
ANY_SOURCE = "*"  # named by a plain folder, whose kind is detected
_LAZY = re.compile(r"(pointlift(?:\.\w+)+)(?::(\w+))?")
_OWN = re.compile(r"(.+\.py):\w+")  # a network or method of the user's own


@dataclass(frozen=True)
class _Module:
    """What is read from one file.

    Attributes:
        body: hash of its syntax without imports.
        names: (module, name in it or "", name here) of everything that it imports.
        lazy: (module, name in it) of what it imports by a text, other than the entries of `choices`.
        choices: the dicts of CHOICES in it.
        assets: files of weights that it names.
    """

    body: str
    names: tuple[tuple[str, str, str], ...]
    lazy: tuple[tuple[str, str], ...]
    choices: Mapping[str, Mapping[str, str]]
    assets: tuple[str, ...]


class CodeFingerprints:
    """Fingerprints of code, of this package or of a copy of it elsewhere; each file is read once.

    A file of weights may name a network in its metadata:
    that network does not count, the file's content does.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        self._modules: dict[str, _Module] = {}
        self._files: dict[str, Path | None] = {}
        self._origins: dict[tuple[str, str], str | None] = {}
        self._imported: dict[str, list[str]] = {}
        self._digests: dict[tuple[str, ...], str] = {}

    def of_run(self, method: str, content: Mapping[str, Any]) -> str:
        """Of a run. method: a key of METHODS, or file.py:Class. content: its recipe, every key given."""
        words = named_in(content)
        start = [method if _OWN.fullmatch(method) else self.methods[method]]
        start += [RUNNER] if self.file(RUNNER) else []
        return self._digest([*start, *filter(self._is_readable, words)], words)

    def of_module(self, name: str) -> str:
        """Of a module and everything of the package that it imports, directly or not."""
        return self._digest([name], ())

    @cached_property
    def methods(self) -> Mapping[str, str]:
        """METHODS, as it is written."""
        return next(
            m for name in LISTS if self.file(name) and (m := self._module(name).choices.get("METHODS"))
        )

    def reachable(self, start: Iterable[str], words: Iterable[str] = ()) -> list[str]:
        """Dotted names of the modules that `start` uses, itself included; in alphabetical order.

        Args:
            start: modules, "module:name" or "file.py:name".
            words: what a recipe names.
        """
        found: set[str] = set()
        named = set(words)
        queue = [self._home(text) for text in start]
        while queue:
            name = queue.pop()
            if name in found:
                continue
            found.add(name)
            chosen = [
                self._home(entry)
                for title, entries in self._module(name).choices.items()
                for key, entry in entries.items()
                if key in named or (title == "SOURCES" and ANY_SOURCE in named)
            ]
            queue += [*self._imported_by(name), *filter(_matters, chosen)]
        return sorted(found)

    def _imported_by(self, name: str) -> list[str]:
        """The modules that one imports, whatever a recipe names."""
        if name not in self._imported:
            module = self._module(name)
            origins = [self._origin(*pair) for pair in (*(n[:2] for n in module.names), *module.lazy)]
            self._imported[name] = [m for m in (*origins, *self._backends(name)) if m and _matters(m)]
        return self._imported[name]

    def file(self, name: str) -> Path | None:
        """The file of a module of this package, or of the user's own;
        None for a name inside a module and for others.
        """
        if name not in self._files:
            self._files[name] = self._find(name)
        return self._files[name]

    def _find(self, name: str) -> Path | None:
        if name.endswith(".py"):
            return Path(name)
        first, *parts = name.split(".")
        if first != "pointlift" or not parts:
            return None
        place = self.root.joinpath(*parts)
        files = (place.with_name(f"{place.name}.py"), place / "__init__.py")
        return next((file for file in files if file.is_file()), None)

    def _digest(self, start: list[str], words: Iterable[str]) -> str:
        modules = self.reachable(start, words)
        if (key := tuple(modules)) not in self._digests:
            assets = {self.root / "assets" / asset for name in modules for asset in self._module(name).assets}
            hashes = {
                *map(self._with_imports, modules),
                *(file_hash(file) for file in assets if file.is_file()),
            }
            self._digests[key] = digest(sorted(hashes))
        return self._digests[key]

    def _is_readable(self, word: str) -> bool:
        """Whether a word is file.py:name of the user's own.
        What is wrong with the file says the run that imports it.
        """
        own = _OWN.fullmatch(word)
        try:
            return own is not None and bool(self._module(own.group(1)))
        except (OSError, SyntaxError, ValueError):
            return False

    def _with_imports(self, name: str) -> str:
        """The hash of a module and of the code behind its imported names,
        whatever the files of that are called.
        """
        module = self._module(name)
        return digest([module.body, *sorted({self._content(*imported) for imported in module.names})])

    def _content(self, module: str, name: str, here: str) -> str:
        origin = self._origin(module, name)
        if origin is None:
            return digest([module, name, here])
        body = self._module(origin).body if _matters(origin) else ""
        return body if self.file(f"{module}.{name}") or not name else digest([body, name, here])

    def _home(self, text: str) -> str:
        """The module behind "module", "module:name" or "file.py:name"."""
        if own := _OWN.fullmatch(text):
            return own.group(1)
        module, _, name = text.partition(":")
        return self._origin(module, name) or module

    def _origin(self, module: str, name: str) -> str | None:
        """The module that defines `name` of `module`, however often it is handed on;
        None for other packages'.
        """
        if (module, name) not in self._origins:
            self._origins[module, name] = self._follow(module, name)
        return self._origins[module, name]

    def _follow(self, module: str, name: str) -> str | None:
        if name and self.file(inner := f"{module}.{name}"):
            return inner
        if self.file(module) is None:
            return None
        for base, original, here in self._module(module).names if name else ():
            if here == name and base != module and (found := self._origin(base, original)):
                return found
        return module

    def _backends(self, name: str) -> list[str]:
        """An operation imports its backend by a name made at run time,
        so all modules of its folder count as imported.
        """
        file = self.file(name)
        if file is None or not name.startswith("pointlift.ops.") or not (file.parent / "api.py").is_file():
            return []
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        return [f"{package}.{inner.stem}" for inner in file.parent.glob("*.py") if inner.stem != "__init__"]

    def _module(self, name: str) -> _Module:
        if name not in self._modules:
            file = self.file(name)
            assert file is not None, name
            tree = ast.parse(file.read_text(encoding="utf-8"))
            self._modules[name] = self._read(
                tree, name.split(".") if file.stem == "__init__" else name.split(".")[:-1]
            )
        return self._modules[name]

    def _read(self, tree: ast.Module, package: list[str]) -> _Module:
        names = tuple(sorted(_imports(tree, package)))
        modules = {here for base, name, here in names if self.file(f"{base}.{name}" if name else base)}
        choices = {title: entries for title, entries in map(_choice, _executed(tree)) if entries}
        entries = {text for chosen in choices.values() for text in chosen.values()}
        said = {
            str(node.value) for node in _executed(tree) if isinstance(node, ast.Constant) and _is_text(node)
        }
        lazy = [(text[1], text[2] or "") for text in map(_LAZY.fullmatch, sorted(said - entries)) if text]
        body = hashlib.sha256()
        for token in syntax(tree, modules):
            body.update(token.encode("utf-8", "surrogatepass"))
        assets = tuple(sorted(text for text in said if re.fullmatch(r"[\w.-]+\.safetensors", text)))
        return _Module(
            body.hexdigest(), names, tuple(entry for entry in lazy if self.file(entry[0])), choices, assets
        )


@lru_cache(maxsize=1)
def this_package() -> CodeFingerprints:
    """Of the code that runs, which does not change while it does."""
    return CodeFingerprints()


def named_in(content: Mapping[str, Any]) -> set[str]:
    """What a recipe names: its texts, the kinds before their colons,
    and what "auto" and plain folders may mean.
    """
    words: set[str] = set()
    for key, value in flatten(dict(content)).items():
        for text in texts(value):
            place = text.partition("?")[0]
            words |= {text, place, *place.split(":")[:-1]}
            if key.rpartition(".")[2] == "source" and ":" not in place:
                words.add(ANY_SOURCE)
    model = content.get("model")
    if (
        isinstance(model, Mapping)
        and model.get("network") == "auto"
        and _may_be_transformer(model["image_model"])
    ):
        words.add("point-vit")
    return words


def _may_be_transformer(image_model: str) -> bool:
    """Whether an image model may be one of timm's vision transformers, which "auto" lifts to point-vit; one
    in a file of the user's own may."""
    import timm

    if ":" in image_model:
        return ".py:" in image_model
    name = image_model.partition(".")[0]
    return timm.is_model(name) and "VisionTransformer" in vars(
        sys.modules[timm.model_entrypoint(name).__module__]
    )


def _matters(module: str) -> bool:
    if module.startswith("pointlift.tables."):
        return module in MEASURES
    return not any(module == name or module.startswith(f"{name}.") for name in UNRELATED)


def _choice(node: ast.AST) -> tuple[str, dict[str, str]]:
    """Name and entries of an assignment of one of CHOICES, written out as {"name": "module:attribute"}; no
    entries for another node."""
    if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(node.value, ast.Dict):
        return "", {}
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    if not isinstance(target, ast.Name) or target.id not in CHOICES:
        return "", {}
    if not all(map(_is_text, (*node.value.keys, *node.value.values))):
        return "", {}
    entries: dict[str, str] = ast.literal_eval(node.value)
    return target.id, entries if all(map(_LAZY.fullmatch, entries.values())) else {}


def _imports(tree: ast.Module, package: list[str]) -> set[tuple[str, str, str]]:
    """(module, name in it, name here) of what a tree imports anywhere,
    but not of what only type checkers see.
    """
    found = set()
    for node in _executed(tree):
        if isinstance(node, ast.Import):
            found |= {(alias.name, "", alias.asname or alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {(base, alias.name, alias.asname or alias.name) for alias in node.names}
    return {entry for entry in found if entry[0] != "__future__"}


def _for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if not _for_type_checkers(node):
            yield node
            yield from _executed(node)


def syntax(node: ast.AST, modules: Iterable[str] = ()) -> Iterator[str]:
    """A syntax tree as text, the same on every version of Python (`ast.dump` is not).

    Left out are places, comments, docstrings, imports, `__all__`, the names of this package's modules and the
    entries of CHOICES.

    Args:
        node: a whole module, or a part of one.
        modules: names in it that are modules of this package.
    """
    if isinstance(node, ast.Name) and node.id in modules:
        yield "(Module)"
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield "(Constant value={!r},)".format(re.sub(r"\bpointlift(\.\w+)*\.?", "pointlift", node.value))
        return
    if _choice(node)[1]:
        yield f"(Choice {_choice(node)[0]})"
        return
    yield f"({type(node).__name__}"
    for name, value in ast.iter_fields(node):
        if name in ("ctx", "kind", "type_comment", "type_ignores"):
            continue
        if isinstance(value, list):
            value = [item for item in value if not _is_left_out(item)]
        if value is None or value == []:
            continue
        yield f" {name}="
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, ast.AST):
                yield from syntax(item, modules)
            else:
                yield f"{item!r},"
    yield ")"


def _is_text(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _is_left_out(item: Any) -> bool:
    if isinstance(item, ast.Assign):
        return any(isinstance(target, ast.Name) and target.id == "__all__" for target in item.targets)
    # at the head of a body, or below a constant
    documents = isinstance(item, ast.Expr) and _is_text(item.value)
    return documents or isinstance(item, ast.Import | ast.ImportFrom) or _for_type_checkers(item)
