"""When two runs are the same run: a key made of the recipe, of what its files hold, and of the code that training can reach.

Comments, docstrings, the command line, reports and this package are not part of it: editing them keeps every result valid.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pointlift.runs.folder import FREE
from pointlift.runs.recipe_files import flatten
from pointlift.runs.recipes import METHODS

__all__ = ["DATA", "CodeFingerprints", "FileIdentities", "canonical", "digest", "path_in", "paths_in"]

FORMAT = 1
DATA = "{data}"
ROOT = Path(__file__).resolve().parents[1]
# changes no number: what prints, draws and asks
UNRELATED = ("pointlift.report", "pointlift.commands.main", "pointlift.runs.report")
OWN = (  # of this package, where measures do count
    "definition", "fingerprint", "plan", "claims", "store", "outcome", "worker", "runner", "progress", "needs", "render", "listing",
    "command",
)  # fmt: skip
# what a recipe may say about its display, and where it puts things
DISPLAY = (*FREE, "trainer.progress", "out")
LISTED = 50_000  # entries of a data folder that its identity looks at
SAMPLED = 64  # files of it, and their beginning, middle and end, that it reads
BLOCK = 1 << 16  # bytes
NOT_ON_DISK = ("procedural", "torchvision")  # kinds whose rest is a name
_WEIGHTS = (".safetensors", ".pth", ".pt", ".th", ".t7", ".tar", ".npz", ".ckpt", ".bin")


def digest(content: Any) -> str:
    """sha256 of plain JSON content, independent of the order of keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode()).hexdigest()


def canonical(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved recipe, flat, without the keys that change no number."""
    return {k: v for k, v in flatten(dict(resolved)).items() if k not in DISPLAY}


def path_in(value: str) -> str | None:
    """The path in a recipe's text: 'modelnet:FOLDER?option', 'net.py:function', 'weights.pth', '{data}/...'; None for other text."""
    text = value.partition("?")[0]
    own = re.fullmatch(r"(.+\.py):\w+", text)
    if own:
        return own.group(1)
    while kind := re.match(r"([A-Za-z][\w-]+):", text):  # 'pixels:imagenet:FOLDER'; a single letter is a drive of Windows
        if kind.group(1) in NOT_ON_DISK:
            return None
        text = text[kind.end() :]
        own = re.fullmatch(r"(.+\.py):\w+", text)
        if own:
            return own.group(1)
    if text != value.partition("?")[0] or "/" in text or os.sep in text or text.endswith(_WEIGHTS):
        return text or None
    return None


def paths_in(value: str) -> list[str]:
    """`path_in`, and the paths among the options of a source: 'modelnet:FOLDER?meshes=OTHER_FOLDER'."""
    found = [path] if (path := path_in(value)) is not None else []
    options = [option.partition("=")[2] for option in value.partition("?")[2].split("&")]
    return found + [path for path in options if "/" in path or os.sep in path]


class FileIdentities:
    """What the files and folders that recipes name hold; each is looked at once.

    A file is known by its content. A data folder is known by the names and sizes in it (at most 50,000 entries, breadth first) and by
    samples of 64 of its files, which costs a moment rather than hours of reading: another dataset of the same layout and size is told
    apart, a few bytes changed in one of many files are not. A path that does not exist is "absent".
    """

    def __init__(self, data: str) -> None:
        self.data = data
        self._known: dict[str, str] = {}

    def of(self, content: Mapping[str, Any]) -> dict[str, str]:
        """{key: identity} of every path in a flat recipe that exists, or that lies in the data folder."""
        found = {}
        for key, value in content.items():
            for text in _texts(value):
                for place, path in enumerate(paths_in(text)):
                    identity = self._identity(path.replace(DATA, self.data))
                    if identity != "absent" or DATA in path:
                        found[f"{key}={text}" if not place else f"{key}={text} {path}"] = identity
        return found

    def _identity(self, path: str) -> str:
        if path not in self._known:
            place = Path(path).expanduser()
            if place.is_file():
                self._known[path] = _file_hash(place)
            else:
                self._known[path] = _folder_listing(place) if place.is_dir() else "absent"
        return self._known[path]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def _file_hash(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            found.update(block)
    return found.hexdigest()


def _folder_listing(folder: Path) -> str:
    found, seen = hashlib.sha256(), 0
    files: list[Path] = []
    queue = deque([folder])
    while queue and seen < LISTED:
        place = queue.popleft()
        with os.scandir(place) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                if entry.name.startswith("."):
                    continue
                seen += 1
                inside = Path(entry.path)
                if entry.is_dir():
                    queue.append(inside)
                    found.update(f"{inside.relative_to(folder).as_posix()}/\n".encode())
                elif entry.is_file():
                    files.append(inside)
                    found.update(f"{inside.relative_to(folder).as_posix()} {entry.stat().st_size}\n".encode())
                if seen >= LISTED:
                    break
    for file in files[:: -(-len(files) // SAMPLED) or 1]:
        found.update(_sample(file))
    return found.hexdigest()


def _sample(path: Path) -> bytes:
    """Beginning, middle and end of a file; small ones as a whole."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        blocks = [file.read(BLOCK)]
        for start in (size // 2, max(BLOCK, size - BLOCK)) if size > BLOCK else ():
            file.seek(start)
            blocks.append(file.read(BLOCK))
    return b"".join(blocks)


class CodeFingerprints:
    """Fingerprints of the code behind a method: the syntax trees of all modules of the package that it imports, directly or not."""

    def __init__(self) -> None:
        self._trees: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._modules: dict[str, str] = {}
        self._assets = ""

    def of_method(self, method: str) -> str:
        """Of a key of METHODS."""
        return self.of_module(METHODS[method].partition(":")[0])

    def of_module(self, name: str) -> str:
        """Of a module and everything of the package that it can reach, and of the weights that ship with the package."""
        if not self._assets:
            self._assets = digest({p.name: _file_hash(p) for p in sorted((ROOT / "assets").glob("*.safetensors"))})
        if name not in self._modules:
            self._modules[name] = digest({"assets": self._assets, **{m: self._module(m)[0] for m in self.reachable(name)}})
        return self._modules[name]

    def reachable(self, name: str) -> list[str]:
        """Dotted names of the modules that `name` imports, directly or not, itself included; in alphabetical order."""
        found: set[str] = set()
        queue = [name]
        while queue:
            module = queue.pop()
            if module in found:
                continue
            found.add(module)
            queue += [m for m in (*self._module(module)[1], *_chosen_later(module)) if _matters(m)]
        return sorted(found)

    def _module(self, name: str) -> tuple[str, tuple[str, ...]]:
        if name not in self._trees:
            file = module_file(name)
            assert file is not None, name
            tree = ast.parse(file.read_text(encoding="utf-8"))
            imported = _imports(tree, name, file.name == "__init__.py")
            found = hashlib.sha256()
            for token in syntax(tree):
                found.update(token.encode("utf-8", "surrogatepass"))
            self._trees[name] = (found.hexdigest(), tuple(sorted(imported)))
        return self._trees[name]


def module_file(name: str) -> Path | None:
    """The file of a module of this package; None where there is no such module, as for a name inside one."""
    parts = name.split(".")
    if parts[0] != "pointlift" or len(parts) < 2:
        return None
    place = ROOT.joinpath(*parts[1:])
    for file in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
        if file.is_file():
            return file
    return None


def _matters(module: str) -> bool:
    package, _, name = module.rpartition(".")
    return not module.startswith(UNRELATED) and not (package == "pointlift.tables" and name in OWN)


def _chosen_later(module: str) -> list[str]:
    """An operation imports its backend by a name made at run time, so all modules of its folder count as imported."""
    folder = ROOT.joinpath(*module.split(".")[1:])
    if not module.startswith("pointlift.ops."):
        return []
    package = module if folder.is_dir() else module.rpartition(".")[0]
    place = folder if folder.is_dir() else folder.parent
    return [f"{package}.{file.stem}" for file in place.glob("*.py") if file.stem != "__init__"]


def _imports(tree: ast.Module, name: str, is_package: bool) -> set[str]:
    """Modules of this package that a tree imports anywhere, functions included, but not what only type checkers see."""
    package = name.split(".") if is_package else name.split(".")[:-1]
    found = set()
    for node in _executed(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*(package[: len(package) - node.level + 1] if node.level else []), *([node.module] if node.module else [])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return {m for m in found if module_file(m) is not None}


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from _executed(node)


def syntax(node: ast.AST) -> Iterator[str]:
    """A syntax tree as text without places, comments and docstrings, and the same on every version of Python.

    `ast.dump` would not do: newer versions add fields and leave out empty ones.
    """
    yield f"({type(node).__name__}"
    body = getattr(node, "body", None)
    for name, value in ast.iter_fields(node):
        if name in ("ctx", "kind", "type_comment", "type_ignores"):
            continue
        if name == "body" and body and isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            value = body[1:] if _is_docstring(body[0]) else body
        if value is None or value == []:
            continue
        yield f" {name}="
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, ast.AST):
                yield from syntax(item)
            else:
                yield f"{item!r},"
    yield ")"


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
