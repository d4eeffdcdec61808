"""Files of weights, read without running any code that is in them: safetensors, or what torch.save writes.

torch's own restricted reader (``weights_only=True``) does the reading. What old checkpoints hold besides
tensors (settings, random states, numbers of numpy) is replaced by stand-ins that remember nothing and do
nothing; every other name is refused.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

__all__ = [
    "CONTAINERS",
    "WeightsError",
    "choose_section",
    "is_safetensors",
    "read_content",
    "refuse_non_finite",
    "sections",
    "training_states",
    "what_instead",
]

# moving averages of the weights, which are what was evaluated
AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
CONTAINERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "weights")
# states of training under these names hold no weights
TRAINING = re.compile(r"(optim|sched|lr_|amp$|scaler|rng|loss$|criterion)")
# (module, names): classes of which a checkpoint may hold objects; stand-ins take their places.
# () means every name in the module
INERT: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("argparse", ("Namespace",)),
    (
        "builtins",
        (
            "bool",
            "bytes",
            "dict",
            "float",
            "frozenset",
            "int",
            "list",
            "object",
            "slice",
            "str",
            "tuple",
            "type",
        ),
    ),
    ("copyreg", ("_reconstructor",)),
    ("collections", ("defaultdict",)),
    ("datetime", ()),
    ("numpy", ("dtype", "ndarray", "float64", "float32", "int64", "int32", "bool_")),
    ("numpy.core.multiarray", ("scalar", "_reconstruct")),
    ("numpy._core.multiarray", ("scalar", "_reconstruct")),
    *(
        (module, ("Path", "PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath"))
        for module in ("pathlib", "pathlib._local")
    ),
    ("typing", ()),
    *(
        (library, ())
        for library in ("addict", "easydict", "fvcore", "hydra", "mmcv", "mmengine", "omegaconf", "yacs")
    ),
)
# subclasses of dict, whose items are set one by one
MAPPINGS = ("CfgNode", "Config", "ConfigDict", "Dict", "EasyDict", "defaultdict")
TORCHS_OWN = (
    "_codecs.encode",
    "builtins.bytearray",
    "builtins.complex",
    "builtins.set",
    "collections.Counter",
    "collections.OrderedDict",
)
PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}
# all that bytes which were changed or cut off lead to in torch's reader
GARBAGE = (
    *(
        ArithmeticError,
        AssertionError,
        AttributeError,
        EOFError,
        LookupError,
        MemoryError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    ),
    *(struct.error, zipfile.BadZipFile),
)


class WeightsError(ValueError):
    """A file whose weights cannot be loaded; the message is one sentence."""


class _Inert:
    """Stands where an object of another class was: takes everything, keeps nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Inert:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Nothing."""

    def __setstate__(self, state: Any) -> None:
        """Nothing."""


class _InertMapping:
    """The same for subclasses of dict: a plain dictionary, whose items the reader may set."""

    def __new__(cls, *args: Any, **kwargs: Any) -> OrderedDict[str, Any]:  # type: ignore[misc]
        return OrderedDict()


def read_content(path: str | Path) -> Any:
    """What the file holds: a dictionary of tensors, or whatever was saved,
    with stand-ins for objects of other classes.

    Raises FileNotFoundError for a missing file; WeightsError for a folder and for a file that is empty,
    truncated, no file of weights, or holds classes and functions that have no place beside weights. Nothing
    of it is executed.
    """
    path = Path(path)
    if path.is_dir():
        raise WeightsError(f"{path} is a folder, expected a file of weights.")
    if not path.is_file():
        raise FileNotFoundError(f"No weights at {path}: check the path.")
    with path.open("rb") as file:
        start = file.read(9)
    if not start:
        raise WeightsError(f"{path} is empty: use another copy.")
    if instead := what_instead(path):
        raise WeightsError(f"{path} {instead}.")
    if start[8:9] == b"{":  # behind the header's length; in a zip archive the compression method is there
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise WeightsError(
                f"{path} is a truncated or damaged safetensors file ({error}): use another copy."
            ) from None
    if path.suffix == ".safetensors" and not _is_torch_file(path):
        raise WeightsError(f"{path} is not a safetensors file, whatever its name says: use another copy.")
    return _read_pickle(path)


def is_safetensors(path: Path) -> bool:
    """Whether it starts as safetensors do: a header of JSON behind its length."""
    with path.open("rb") as file:
        return file.read(9)[8:9] == b"{"


def what_instead(path: Path) -> str | None:
    """What lies in the place of weights that were not fetched, or not unpacked, and what to do: "is a ...".
    None for everything else.
    """
    with path.open("rb") as file:
        start = file.read(1024)
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"version https://git-lfs"):
        size = re.search(rb"^size (\d+)", text, re.MULTILINE)
        of = f" ({int(size[1]):,} bytes)" if size else ""
        return f"is a pointer of Git LFS and not the file{of} that it stands for: fetch it with git lfs pull"
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<error")):
        title = re.search(rb"<title[^>]*>\s*([^<]{1,80})", start, re.IGNORECASE)
        said = f" ({' '.join(title[1].decode(errors='replace').split())})" if title else ""
        return (
            f"is a web page{said} and not a file of weights: download the file itself, "
            "whose link usually has raw or resolve in it"
        )
    if text.startswith((b"{", b"[")) and start[8:9] != b"{":
        said = " ".join(text[:80].decode(errors="replace").split())
        return f"is a text of JSON ({said}) and not a file of weights: download the file itself"
    if start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf")) or start[257:262] == b"ustar":
        return "is packed: unpack it first and give the file of weights that is in it"
    return None


def sections(content: Any) -> dict[str, dict[str, Tensor]]:
    """Every dictionary of named tensors in `content` by the names that lead to it, joined by dots;
    "" is `content` itself.

    States of optimizers and the like are left out: `training_states` names them.
    """
    found: dict[str, dict[str, Tensor]] = {}

    def walk(name: str, value: Any, depth: int) -> None:
        if not isinstance(value, Mapping) or depth > 3:
            return
        tensors = {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, Tensor)}
        if tensors:
            found[name] = tensors
        for key, inner in value.items():
            if isinstance(key, str) and not TRAINING.search(key.lower()):
                walk(f"{name}.{key}" if name else key, inner, depth + 1)

    walk("", content, 0)
    return found


def training_states(content: Any) -> tuple[str, ...]:
    """Names at the top level of `content` that hold states of training (of an optimizer, of a loss),
    which `sections` leaves out.
    """
    if not isinstance(content, Mapping):
        return ()
    return tuple(
        k
        for k, v in content.items()
        if isinstance(k, str) and isinstance(v, Mapping) and TRAINING.search(k.lower())
    )


def choose_section(path: Path, found: Mapping[str, Mapping[str, Tensor]], part: str | None = None) -> str:
    """The section that holds the weights: `part` if given, else a moving average, else the usual names,
    else the only one.

    Raises WeightsError where there is none, or none of these.
    """
    if part is not None:
        if part not in found:
            raise WeightsError(f"{path} has no part {part!r}: it has {_listed(found) or 'no named tensors'}.")
        return part
    for names in (AVERAGES, CONTAINERS):
        for container in names:
            inside = [s for s in found if s.split(".")[0] == container]
            if inside:
                return max(inside, key=lambda s: len(found[s]))
    if "" in found:
        return ""
    if len(found) == 1:
        return next(iter(found))
    if found:
        raise WeightsError(f"{path} holds several networks ({_listed(found)}): name one of them as part.")
    raise WeightsError(
        f"{path} holds no named tensors: expected a state_dict, "
        f"alone or under one of {', '.join(CONTAINERS)}."
    )


def _listed(found: Mapping[str, Mapping[str, Tensor]]) -> str:
    return ", ".join(f"{name or 'the top level'} ({len(tensors)} tensors)" for name, tensors in found.items())


def refuse_non_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise WeightsError where a tensor holds NaN or infinity, which would spread to every result."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(
                f"{path}: {name} holds values that are not finite: "
                "the network had diverged or the file is damaged."
            )


# ------------------------------------------------------------------------------------------------ pickles


def _read_pickle(path: Path) -> Any:
    try:
        try:
            return _load(path, {})
        except pickle.UnpicklingError:
            stand_ins, refused = _stand_ins(path)
            if refused or not stand_ins:
                raise
            return _load(path, stand_ins)
    except pickle.UnpicklingError as error:
        raise _refusal(path, error) from None
    except GARBAGE as error:
        if _is_torch_file(path):
            raise WeightsError(
                f"{path} is a truncated or damaged torch file ({_first_line(error)}): use another copy."
            ) from None
        raise WeightsError(
            f"{path} is not a file of weights: expected safetensors or what torch.save writes."
        ) from None


def _load(path: Path, stand_ins: Mapping[str, type]) -> Any:
    with (
        path.open("rb") as file,
        torch.serialization.safe_globals([(c, name) for name, c in stand_ins.items()]),
    ):
        # a file, since torch believes the name .safetensors
        return torch.load(file, map_location="cpu", weights_only=True)


def _refusal(path: Path, error: pickle.UnpicklingError) -> WeightsError:
    refused = _stand_ins(path)[1]
    name = re.search(r"(?:GLOBAL |global |class |function )`?([\w.]+)", str(error))
    what = f" ({refused[0]})" if refused else f" ({name.group(1)})" if name and "." in name.group(1) else ""
    if what or "Unsupported" in str(error) or ("weights_only" in str(error) and _is_torch_file(path)):
        return WeightsError(
            f"{path} holds Python objects besides tensors{what}, which pointlift never executes: "
            "save its state_dict alone, with torch.save or as safetensors, where you trust it."
        )
    return WeightsError(f"{path} is not a file of weights: expected safetensors or what torch.save writes.")


def _stand_ins(path: Path) -> tuple[dict[str, type], list[str]]:
    """({name: stand-in}, names that are refused) of the classes and functions that a torch file mentions and
    torch does not allow.
    """
    stand_ins: dict[str, type] = {}
    refused: list[str] = []
    for module, name in _mentioned(path):
        full = f"{module}.{name}"
        if any(
            (module == m or (not names and module.startswith(f"{m}."))) and (not names or name in names)
            for m, names in INERT
        ):
            stand_ins[full] = _InertMapping if name in MAPPINGS else _Inert
        elif module.split(".")[0] != "torch" and full not in TORCHS_OWN:
            refused.append(full)
    return stand_ins, refused


def _mentioned(path: Path) -> list[tuple[str, str]]:
    """(module, name) of every global in a torch file's pickle, found by reading its instructions,
    none of which is carried out.
    """
    found: list[tuple[str, str]] = []

    def scan(pickled: BinaryIO) -> None:
        for operation, argument, _ in pickletools.genops(pickled):
            if operation.name == "GLOBAL":
                module, name = str(argument).split(" ", 1)
                found.append((PYTHON_2.get(module, module), name))

    try:
        if _is_zip(path):
            with zipfile.ZipFile(path) as archive:
                for member in archive.namelist():
                    if member.endswith("data.pkl"):
                        with archive.open(member) as pickled:
                            scan(pickled)  # type: ignore[arg-type]
        else:
            with path.open("rb") as file:
                for _ in range(4):  # magic number, version, system, content; storages follow
                    scan(file)
    except (ValueError, EOFError, OSError, UnicodeDecodeError, zipfile.BadZipFile):
        return found  # a damaged file: what torch's reader said about it stands
    return found


def _is_torch_file(path: Path) -> bool:
    """Whether it starts like a zip archive or a pickle of protocol 2 or later."""
    with path.open("rb") as file:
        start = file.read(2)
    return _is_zip(path) or start == b"PK" or start[:1] == b"\x80"


def _is_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # what claims to continue on another disk
        return True


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0].rstrip(".:") if text else type(error).__name__
