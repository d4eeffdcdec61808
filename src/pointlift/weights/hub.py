"""Checkpoints on the Hugging Face hub, or a server that speaks its protocol (HF_ENDPOINT); extra [hub].

A repository holds model.safetensors, the checkpoint as it is on disk, and pointlift.json, its metadata to be
looked at. Nothing else is pushed, and nothing but model.safetensors is ever fetched: no pickle, no code. What
was fetched is read as any checkpoint, under the rules of `pointlift.weights.checkpoints`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["CARD", "FILE", "PREFIX", "HubError", "located", "on_hub", "reached", "take_apart"]

PREFIX = "hf-hub:"
FILE = "model.safetensors"
CARD = "pointlift.json"
REPOSITORY = re.compile(r"(?:[A-Za-z0-9][\w.\-]*/)[A-Za-z0-9][\w.\-]*")


class HubError(ValueError):
    """A repository that cannot be had or written; the message is one sentence."""


def on_hub(name: str | Path) -> bool:
    """Whether a checkpoint is named as one on a hub: "hf-hub:user/repository"."""
    return str(name).startswith(PREFIX)


def located(name: str | Path) -> Path:
    """The file of a checkpoint: a path as it is; of "hf-hub:user/repository", with "@revision" (a branch, tag
    or commit) or without, the file that is fetched, or kept from an earlier time.

    Raises HubError where the extra is not installed, and for what cannot be had.
    """
    if not on_hub(name):
        return Path(name)
    repository, revision = take_apart(str(name))
    with reached(repository) as hub:
        file = hub.hf_hub_download(repository, FILE, revision=revision, endpoint=endpoint())
    return Path(file)


def take_apart(name: str) -> tuple[str, str | None]:
    """Repository and revision of "hf-hub:user/repository@revision". Raises HubError for another name."""
    repository, sign, revision = name.removeprefix(PREFIX).partition("@")
    if not REPOSITORY.fullmatch(repository) or (sign and not revision):
        raise HubError(
            f"{name!r} names no repository, expected hf-hub:user/repository or with @revision behind it"
        )
    return repository, revision or None


@contextmanager
def reached(repository: str) -> Iterator[Any]:
    """huggingface_hub, whose errors within the block are one sentence. Raises HubError."""
    hub = _library()
    try:
        yield hub
    except hub.errors.EntryNotFoundError as error:
        if isinstance(error, hub.errors.LocalEntryNotFoundError):
            raise HubError(_unreachable(repository, error)) from None
        raise HubError(
            f"{PREFIX}{repository} has no {FILE}, so it was not written by pointlift.push_to_hub: look at "
            "its files, and download what you trust"
        ) from None
    except hub.errors.RevisionNotFoundError:
        raise HubError(
            f"{PREFIX}{repository} has no such revision: name a branch, tag or commit of it"
        ) from None
    except hub.errors.RepositoryNotFoundError:
        raise HubError(
            f"{PREFIX}{repository} is not there, or private and you are not logged in: look at the name, or "
            "run hf auth login"
        ) from None
    except hub.errors.HFValidationError as error:
        raise HubError(f"{PREFIX}{repository}: {_line(error)}") from None
    except hub.errors.HfHubHTTPError as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        how = "run hf auth login with a token that may write" if status in (401, 403) else "try again later"
        raise HubError(f"{PREFIX}{repository} was refused by the server ({_line(error)}): {how}") from None
    except (OSError, RuntimeError) as error:  # among them all that a connection raises
        raise HubError(_unreachable(repository, error)) from None
    except Exception as error:
        if type(error).__module__.startswith(("httpx", "httpcore", "requests")):
            raise HubError(_unreachable(repository, error)) from None
        raise


def endpoint() -> str | None:
    """Another server than huggingface.co; None for that one."""
    return os.environ.get("HF_ENDPOINT") or None


def _library() -> ModuleType:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ModuleNotFoundError:
        raise HubError(
            "huggingface_hub is not installed, which checkpoints on a hub need: pip install 'pointlift[hub]'"
        ) from None
    return huggingface_hub


def _unreachable(repository: str, error: BaseException) -> str:
    return (
        f"{PREFIX}{repository} cannot be reached ({_line(error)}), and was not fetched before: look at the "
        "connection, or name a file"
    )


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160].rstrip(".")
