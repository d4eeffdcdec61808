"""Putting a network on a hub, from where `pointlift.load("hf-hub:user/repository")` takes it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from torch import nn

from pointlift.weights.checkpoints import read_weights, save
from pointlift.weights.hub import CARD, FILE, endpoint, on_hub, reached, take_apart

__all__ = ["push_to_hub"]


def push_to_hub(
    net: nn.Module | str | Path,
    repository: str,
    private: bool | None = None,
    revision: str | None = None,
    message: str = "pointlift checkpoint",
    **more: Any,
) -> str:
    """Put a network, or a checkpoint file, on a hub: its safetensors file and its metadata as JSON.

    The metadata hold the recipe of the run, with the paths in it, and its environment; they become as public
    as the repository.

    Args:
        net: a network of clouds, or a file that pointlift wrote, which goes as it is.
        repository: "user/repository"; made where it is not there.
        private: of a new repository; None as the account has it.
        revision: the branch; None for the main one.
        message: of the commit.
        more: of `pointlift.save`, for a network: classes, features, ...

    Returns:
        The name that `load` takes, "hf-hub:user/repository".

    Raises:
        HubError: where the extra [hub] is not installed, the name is none, or the server refuses.
        FileNotFoundError, CheckpointError: a file that `load` would refuse. TypeError, ValueError: as
            `pointlift.save`, and `more` beside a file.
    """
    name, _ = take_apart(repository)
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(net, nn.Module):
            file = save(net, Path(folder) / FILE, **more)
        elif more or on_hub(net):
            raise ValueError(
                f"{net} goes as it is, expected a file and no more about it, got "
                f"{', '.join(more) or 'a name on a hub'}"
            )
        else:
            file = Path(net)
        metadata, _ = read_weights(file)
        card = json.dumps(metadata, indent=2).encode()
        with reached(name) as hub:
            api = hub.HfApi(endpoint=endpoint())
            api.create_repo(name, private=private, exist_ok=True)
            api.create_commit(
                name,
                [
                    hub.CommitOperationAdd(path_in_repo=FILE, path_or_fileobj=str(file)),
                    hub.CommitOperationAdd(path_in_repo=CARD, path_or_fileobj=card),
                ],
                commit_message=message,
                revision=revision,
            )
    return f"hf-hub:{name}" + (f"@{revision}" if revision else "")
