"""pointlift's checkpoints: one safetensors file with the weights,
and in its metadata everything needed to build the network again.

A file never contains code, and loading never executes any. Two things are verified on loading: a checksum of
every tensor (the file is what was written) and the logits of a small fixed cloud (this installation computes
what the writing one computed).
"""

from __future__ import annotations

import copy
import struct
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from pointlift.core.sparse_tensor import PointBatch, SparseTensor
from pointlift.inflation import set_finetune
from pointlift.models import create_model
from pointlift.models.factory import POINT_NETWORKS, is_own_code, leads_elsewhere
from pointlift.nn import CloudNetwork
from pointlift.weights.archive import digest, read_archive, write_archive
from pointlift.weights.files import what_instead
from pointlift.weights.image_weights import ImageWeightsReport, load_image_weights
from pointlift.weights.kernel_orders import KernelSource, kernel_order

__all__ = [
    "CheckpointError",
    "ImageWeightsReport",
    "KernelSource",
    "kernel_order",
    "load",
    "load_image_weights",
    "read_metadata",
    "read_weights",
    "save",
    "save_checkpoint",
    "task_of",
]

FORMAT = 2  # 1 knew inflated networks and the linear one only
GOLDEN = "pointlift.golden."
TOLERANCE = 1e-3  # of the largest golden logit; covers other kernels and devices, not other arithmetic
RELATED = {  # pointlift's files that are no checkpoints, by kind
    "teacher": "an image network, which sees pictures (teacher.checkpoint)",
    "generator": "a point generator, which sees features (generator.checkpoint)",
}
# keywords of `create_model` that no network has among its arguments: they name, fetch or bring an image model
NO_ARGUMENTS = ("name", "pretrained", "network", "image_model", "image_options", "voxel_size")
REQUIRED = (
    "image_model",
    "inflate",
    "num_classes",
    "in_channels",
    "classes",
    "voxel_size",
    "features",
    "up_axis",
    "regime",
)


class CheckpointError(ValueError):
    """A file that cannot be loaded as a pointlift checkpoint; the message is one sentence."""


def save_checkpoint(path: str | Path, net: nn.Module, config: Mapping[str, Any]) -> Path:
    """Write the weights of `net` and how to build and use it to `path`; the file appears whole or not at all.

    config, all of it JSON:
        image_model     name for `create_model`, "path/to/net.py:function" for the user's own,
                        None for a module made in Python
        image_options   keyword arguments of the image model, None for none (may be left out)
        network         what was made of the image model: "inflated" (if left out) or another of
                        `create_model`'s networks
        inflate         the keyword arguments that made it (`net.arguments`)
        num_classes, classes    number of classes and their names, in the order of the logits
        in_channels, features   channels per point and what they are ("xyz")
        voxel_size      edge in the units of the clouds
        up_axis         "x", "y" or "z"
        regime          the fine-tuning regime it was trained in
    and freely more, usually `task`, `normalisation` and `protocol`. The pointlift version is added.
    Raises ValueError for a missing key or a value that JSON cannot hold,
    OSError where the file cannot be written.
    """
    missing = [k for k in REQUIRED if k not in config]
    if missing:
        raise ValueError(f"A checkpoint's config needs {', '.join(REQUIRED)}; missing: {', '.join(missing)}.")
    if len(config["classes"]) != config["num_classes"]:
        raise ValueError(
            f"config has {len(config['classes'])} class names for num_classes={config['num_classes']}: "
            "name every class."
        )
    golden = _golden(int(config["in_channels"]))
    logits = _logits(net, golden.coords, golden.features)
    tensors = dict(net.state_dict())
    tensors |= {
        f"{GOLDEN}coords": golden.coords,
        f"{GOLDEN}features": golden.features,
        f"{GOLDEN}logits": logits,
    }
    content = {**config, "format": FORMAT, "pointlift": metadata.version("pointlift")}
    return write_archive(path, "network", content, tensors)


def save(
    net: nn.Module,
    path: str | Path,
    classes: Sequence[str] | None = None,
    image_model: str | None = None,
    image_options: Mapping[str, Any] | None = None,
    features: str = "xyz",
    up_axis: str = "y",
    normalisation: str = "unit-sphere",
    **more: Any,
) -> Path:
    """Write a network that was lifted or trained in one's own loop; `load` and `Predictor` read it.

    Args:
        net: a network of clouds, also compiled or wrapped for several devices; it stays as it is.
        path: the file (.safetensors), which appears whole or not at all.
        classes: names, in the order of the logits; None takes those of the checkpoint that it was loaded
            from, else numbers them ("class 0", ...).
        image_model, image_options: what the network was made from, by name; None takes what `create_model`
            was given. Without a name, `load` needs the module.
        features, up_axis, normalisation: of the clouds it learned from ("xyz", "own" or "xyz+own"; "x", "y"
            or "z"; "unit-sphere" or "none"), which the commands prepare others like. For a network from a
            checkpoint, what that says where these are left out.
        more: further facts as JSON, e.g. protocol={"epochs": 20}, n_points=1024.

    Returns:
        The path.

    Raises:
        TypeError: for what is no network of clouds.
        ValueError: for another number of classes than the network has, and for what JSON cannot hold.
        OSError: where the file cannot be written.
    """
    while not isinstance(net, CloudNetwork):  # a compiled one, or one wrapped for several devices
        inner = getattr(net, "_orig_mod", getattr(net, "module", None))
        if not isinstance(inner, nn.Module):
            break
        net = inner
    if not isinstance(net, CloudNetwork):
        raise TypeError(
            f"pointlift.save writes networks of clouds, got {type(net).__name__}: "
            "weights of image networks are written with torch.save(net.state_dict(), path)."
        )
    known = dict(net.metadata)
    known_classes = known.pop("classes", None)
    if classes is None and known_classes is not None and len(known_classes) == net.num_classes:
        classes = known_classes
    names = [f"class {i}" for i in range(net.num_classes)] if classes is None else list(classes)
    arguments = dict(net.arguments)
    named, options = arguments.pop("image_model", None), arguments.pop("image_options", None)
    clouds = {"features": features, "up_axis": up_axis, "normalisation": normalisation}
    defaults = {"features": "xyz", "up_axis": "y", "normalisation": "unit-sphere"}
    config = {
        **{k: v for k, v in known.items() if k not in ("sha256", "format", "pointlift")},
        **{k: v for k, v in clouds.items() if k not in known or v != defaults[k]},
        "image_model": image_model or net.image_model or named,
        "image_options": image_options or net.image_options or options,
        "network": net.kind,
        "inflate": arguments,
        "num_classes": net.num_classes,
        "classes": [str(name) for name in names],
        "in_channels": net.in_channels,
        "voxel_size": net.voxel_size,
        "regime": net.regime,
        **more,
    }
    return save_checkpoint(path, net, config)


def read_metadata(path: str | Path) -> dict[str, Any]:
    """The config of a checkpoint without its weights. Raises like `load`."""
    return _read(Path(path), weights=False)[0]


def task_of(metadata: Mapping[str, Any]) -> str:
    """The one of `pointlift.tasks` that a checkpoint serves;
    files from before they said so tell by what else they have.
    """
    return str(
        metadata.get("task") or ("parts" if "parts" in metadata and "categories" in metadata else "classify")
    )


def load(path: str | Path, image_model: nn.Module | None = None, verify: bool = True) -> CloudNetwork:
    """The network of a checkpoint, in eval mode on the CPU, with its config as `.metadata`.

    image_model: needed for networks that were inflated from a model of the user's own (code is never taken
        from a checkpoint); only its architecture matters. The user's own networks of clouds are given the
        same way.
    verify: check the checksum and the golden logits.
    Raises FileNotFoundError for a missing file and CheckpointError for everything else that is wrong with it.
    """
    path = Path(path)
    config, tensors, golden = _read_verified(path, verify)
    # the random start is overwritten, and the caller's random numbers stay as they are
    with torch.random.fork_rng(devices=[]):
        try:
            net = _build(path, config, image_model)
        except CheckpointError:
            raise
        except (ValueError, TypeError, RuntimeError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise CheckpointError(
                f"{path}: no network can be made as its metadata say ({reason}): use another copy."
            ) from error
    _fill(path, net, tensors, config)
    net.eval()
    net.metadata = config
    if verify:
        _check_golden(path, net, golden, config)
    return net


def read_weights(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and tensors of a checkpoint, the checksum verified; no network is made. Raises like `load`."""
    config, tensors, _ = _read_verified(Path(path), verify=True)
    return config, tensors


# ----------------------------------------------------------------------------------------------- reading


def _read_verified(path: Path, verify: bool) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """Config, weights and golden tensors."""
    config, tensors = _read(path)
    if verify and config["sha256"] != digest(tensors):
        raise CheckpointError(
            f"{path} is damaged: the checksum of its weights is wrong; "
            "use another copy (verify=False loads it anyway)."
        )
    golden = {k.removeprefix(GOLDEN): tensors.pop(k) for k in list(tensors) if k.startswith(GOLDEN)}
    return config, tensors, golden


def _read(path: Path, weights: bool = True) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if path.is_dir():
        raise CheckpointError(
            f"{path} is a folder, expected a checkpoint file (runs write model.safetensors)."
        )
    if not path.is_file():
        raise FileNotFoundError(
            f"No checkpoint at {path}: check the path (runs write model.safetensors into their output "
            "folder)."
        )
    _check_header(path)
    try:
        archive = read_archive(path, weights)
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is truncated or damaged and cannot be read ({error}): use another copy."
        ) from None
    if archive.kind in RELATED:
        what = RELATED[archive.kind]
        raise CheckpointError(
            f"{path} is {what}, and no network of clouds: use the checkpoint of a student (method pointcmt)."
        )
    if archive.kind != "network":
        raise CheckpointError(
            f"{path} is safetensors but not a pointlift checkpoint: "
            "image weights are loaded with load_image_weights."
        )
    config: dict[str, Any] = archive.content or {}
    try:
        version = int(config["format"])
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(
            f"{path}: the metadata of this pointlift checkpoint are damaged: use another copy."
        ) from None
    if version > FORMAT:
        raise CheckpointError(
            f"{path} has format {version}, written by pointlift {config.get('pointlift')}, but this version "
            f"reads formats up to {FORMAT}: upgrade with pip install -U pointlift."
        )
    if lacking := [k for k in (*REQUIRED, "sha256") if k not in config]:
        raise CheckpointError(
            f"{path}: the metadata of this pointlift checkpoint lack {', '.join(lacking)}: use another copy."
        )
    _check_values(path, config)
    return config, archive.tensors


def _check_values(path: Path, config: dict[str, Any]) -> None:
    """What everything behind relies on, and what another program, or an editor, may have got wrong."""
    classes, number, edge = config["classes"], config["num_classes"], config["voxel_size"]
    wrong = None
    if not isinstance(classes, list) or len(classes) != number:
        wrong = (
            f"{len(classes) if isinstance(classes, list) else 'no'} class names for num_classes {number!r}"
        )
    elif isinstance(edge, bool) or not isinstance(edge, (int, float)) or not 0 < edge < float("inf"):
        wrong = f"voxel_size {edge!r}, a positive number is expected"
    elif config["up_axis"] not in ("x", "y", "z"):
        wrong = f"up_axis {config['up_axis']!r}, x, y or z is expected"
    elif not isinstance(config["inflate"], dict):
        wrong = f"inflate {config['inflate']!r}, a mapping is expected"
    if wrong:
        raise CheckpointError(
            f"{path}: the metadata of this pointlift checkpoint are damaged ({wrong}): use another copy."
        )


def _check_header(path: Path) -> None:
    """Tell apart what safetensors' own message does not:
    empty files, pickles, other files and cut-off ones.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(10)
    if size == 0:
        raise CheckpointError(f"{path} is empty: the checkpoint was never written, use another copy.")
    safetensors = start[8:9] == b"{"  # behind the header's length, whose first bytes may look like anything
    if not safetensors and (start[:2] == b"PK" or start[:1] == b"\x80"):
        raise CheckpointError(
            f"{path} is a torch pickle, not a pointlift checkpoint: "
            "image weights are loaded with load_image_weights."
        )
    if instead := None if safetensors else what_instead(path):
        raise CheckpointError(f"{path} {instead}.")
    if not safetensors:
        raise CheckpointError(
            f"{path} is not a pointlift checkpoint: expected a .safetensors file written by pointlift."
        )
    length = struct.unpack("<Q", start[:8])[0]
    if 8 + length > size:
        raise CheckpointError(
            f"{path} is truncated: {size} bytes are there, its header alone needs {8 + length}; "
            "use another copy."
        )


def refuse_code(path: Path, name: str | None, own: str, elsewhere: str, known: bool = False) -> None:
    """Raises CheckpointError for an image model that is the user's code, made in Python, or fetched from
    elsewhere by its name: a file never runs code by itself. own, elsewhere: what to do about it. known: the
    user has named that code too.
    """
    if name is None or (is_own_code(str(name)) and not known):
        origin = f"the image model {name}" if name else "an image model made in Python"
        raise CheckpointError(f"{path} was made from {origin}, and a checkpoint never runs code: {own}")
    if place := leads_elsewhere(str(name)):
        raise CheckpointError(f"{path}: {place}: {elsewhere}")


def _build(path: Path, config: dict[str, Any], image_model: nn.Module | None) -> CloudNetwork:
    name = config["image_model"]
    arguments = {
        **config["inflate"],
        "num_classes": config["num_classes"],
        "in_channels": config["in_channels"],
    }
    arguments.pop("fixed", None)  # found again from the image model
    if odd := [k for k in arguments if k in NO_ARGUMENTS]:
        raise CheckpointError(
            f"{path}: the metadata of this pointlift checkpoint are damaged (the network is made with "
            f"{odd[0]}, which a checkpoint may not ask for): use another copy."
        )
    if isinstance(arguments.get("rule"), list):
        arguments["rule"] = torch.tensor(arguments["rule"])
    if image_model is not None:
        if name in POINT_NETWORKS:
            raise CheckpointError(
                f"{path} holds {name}, which is not made from an image model: leave image_model out."
            )
        network = "auto" if isinstance(image_model, CloudNetwork) else config.get("network") or "inflated"
        net = create_model("", image_model=copy.deepcopy(image_model), network=network, **arguments)
    else:
        refuse_code(path, name, "pass image_model=... to load it.", "pass image_model=... to load it.")
        network = "auto" if name in POINT_NETWORKS else config.get("network") or "inflated"
        net = create_model(name, network=network, image_options=config.get("image_options"), **arguments)
    net.voxel_size = float(config["voxel_size"])
    net.image_model, net.image_options = name, config.get("image_options")
    if config["regime"] is not None:
        set_finetune(net, config["regime"])
    return net


def _fill(path: Path, net: nn.Module, tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
    expected = net.state_dict()
    missing = [k for k in expected if k not in tensors]
    unexpected = [k for k in tensors if k not in expected]
    reshaped = [k for k in expected if k in tensors and tensors[k].shape != expected[k].shape]
    found = [
        f"{len(names)} tensors {what} (first: {names[0]})"
        for what, names in (
            ("are missing", missing),
            ("are unexpected", unexpected),
            ("have another shape", reshaped),
        )
        if names
    ]
    if found:
        raise CheckpointError(
            f"{path} is the checkpoint of another architecture than {config['image_model'] or 'image_model'} "
            f"inflated as it says: {', '.join(found)}, {len(expected) - len(missing) - len(reshaped)} of "
            f"{len(expected)} match; pass the image model it was made from."
        )
    net.load_state_dict(tensors)


# ----------------------------------------------------------------------------------------------- verification


def _golden(channels: int) -> SparseTensor:
    """Two small clouds of smooth features on every other voxel of a 6 x 6 x 6 grid."""
    cells = torch.cartesian_prod(torch.arange(2), *[torch.arange(6)] * 3)
    cells = cells[(cells.sum(1) + cells[:, 1] * cells[:, 2]) % 2 == 0]
    features = torch.sin(
        cells.to(torch.float32) @ torch.linspace(0.3, 2.1, 4 * channels).reshape(4, channels)
    )
    return SparseTensor(features, cells.to(torch.int32), batch_size=2)


def _golden_points(coords: Tensor, features: Tensor) -> PointBatch:
    """The golden cells as two clouds in about the unit sphere, shifted so that no two distances are equal."""
    cells = coords[:, 1:].to(torch.float32)
    xyz = (
        cells / 3.0
        - 0.8
        + 0.05 * torch.sin(cells @ torch.tensor([[12.9, 3.1, 7.7], [78.2, 11.3, 1.9], [37.7, 5.3, 23.1]]))
    )
    offsets = torch.cat(
        [torch.zeros(1, dtype=torch.int64), torch.bincount(coords[:, 0].long(), minlength=2).cumsum(0)]
    )
    return PointBatch(xyz, torch.cat([xyz, features[:, 3:]], 1), offsets)


@torch.no_grad()
def _logits(net: nn.Module, coords: Tensor, features: Tensor) -> Tensor:
    """(2, num_classes) of a copy of `net` on the CPU, so that its mode,
    device and caches stay as they are.
    """
    copied = copy.deepcopy(net).cpu().float().eval()
    golden = (
        _golden_points(coords, features)
        if getattr(net, "takes", "voxels") == "points"
        else SparseTensor(features, coords, batch_size=2)
    )
    with torch.autocast("cpu", enabled=False):
        logits: Tensor = copied(golden)
    return logits.detach().contiguous()


def _check_golden(path: Path, net: nn.Module, golden: dict[str, Tensor], config: dict[str, Any]) -> None:
    difference = float((_logits(net, golden["coords"], golden["features"]) - golden["logits"]).abs().max())
    allowed = TOLERANCE * max(1.0, float(golden["logits"].abs().max()))
    if not difference <= allowed:
        raise CheckpointError(
            f"{path}: the weights are intact, but this installation computes other logits than pointlift "
            f"{config['pointlift']} did when it wrote them (largest difference {difference:.3g}, "
            f"allowed {allowed:.3g}): use that version, or verify=False."
        )
