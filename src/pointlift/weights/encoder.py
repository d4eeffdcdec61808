"""An encoder trained for something else in a network of parts:
PointCMT's table 11 starts from encoders of ModelNet40 classifiers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pointlift.models.points.pointnet2_parts import ENCODER, PointNet2Parts
from pointlift.weights.checkpoints import read_weights
from pointlift.weights.files import WeightsError, refuse_non_finite
from pointlift.weights.minkowski_files import PointWeightsReport

__all__ = ["load_encoder"]

FUNCTION = ("npoint", "radii", "nsample")  # arguments of an encoder that no tensor's shape shows


def load_encoder(path: str | Path, net: PointNet2Parts) -> PointWeightsReport:
    """Fill the encoder of `net` (levels, whole) from a checkpoint of a PointNet++:
    a classifier, a PointCMT student or a network of parts.

    Every tensor of the encoder must be there in the same shape, but for those of the input layer, which keep
    the network's own values where a classifier of other channels has others. Nothing else of the file is
    used; it is listed as dropped. Numbers of centres and neighbours and radii that differ do not hinder, and
    are named in the report's remarks.

    Raises FileNotFoundError for a missing file, and CheckpointError or WeightsError, both ValueErrors, for a
    file that is damaged or holds another encoder; `net` is then unchanged.
    """
    path = Path(path)
    config, tensors = read_weights(path)
    expected = {name: t for name, t in net.state_dict().items() if _inside(name, ENCODER)}
    given = {name: t for name, t in tensors.items() if _inside(name, ENCODER)}
    refuse_non_finite(path, given)
    loaded = [n for n in expected if n in given and given[n].shape == expected[n].shape]
    kept = [
        (n, _why(given[n].shape, expected[n].shape) if n in given else "missing in the file")
        for n in expected
        if n not in set(loaded)
    ]
    unknown = [(n, "unknown to the network") for n in given if n not in expected]
    refused = [row for row in (*kept, *unknown) if not _inside(row[0], net.input_modules)]
    if refused or len(loaded) == 0:
        name, why = refused[0] if refused else (next(iter(expected)), "missing in the file")
        raise WeightsError(
            f"{path} holds {config['image_model'] or 'a network made in Python'}, "
            f"whose encoder is not that of {type(net).__name__}: {len(loaded)} of {len(expected)} tensors "
            f"match, {len(refused)} do not fit (first: {name}, {why}); use a checkpoint of the same "
            "PointNet++ (model.kind, model.options)."
        )
    net.load_state_dict({n: given[n] for n in loaded}, strict=False)
    rest = [(n, "not part of the encoder") for n in net.state_dict() if not _inside(n, ENCODER)]
    reinitialised = [(n, f"input layer {why}, re-initialised") for n, why in kept] + [
        (n, f"{why}, newly initialised") for n, why in rest
    ]
    dropped = [(n, "not part of the encoder") for n in tensors if not _inside(n, ENCODER)]
    remarks = (
        f"written by pointlift {config.get('pointlift')} for {config['num_classes']} classes",
        *_differences(config["inflate"], net),
    )
    return PointWeightsReport(
        str(path),
        "pointlift checkpoint, its encoder",
        None,
        tuple(loaded),
        tuple(reinitialised),
        tuple(dropped),
        remarks,
    )


def _inside(name: str, modules: Sequence[str]) -> bool:
    return any(name == m or name.startswith(f"{m}.") for m in modules)


def _why(there: Sequence[int], here: Sequence[int]) -> str:
    return f"of shape {'x'.join(map(str, there))}, not {'x'.join(map(str, here))}"


def _differences(arguments: Mapping[str, Any], net: PointNet2Parts) -> list[str]:
    return [
        f"{name} was {arguments[name]} in its training and is {net.arguments[name]} here"
        for name in FUNCTION
        if name in arguments and arguments[name] != net.arguments[name]
    ]
