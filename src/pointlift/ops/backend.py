"""Which implementation of an operation runs, and why.

Every operation has a plain torch `reference` that runs on any device; `cpu` is numba, `cuda` is triton. The
choice depends on the device, the dtype and the caller's wish only, never on global state, and every refusal
has a sentence that `pointlift doctor` prints.
"""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import importlib.util
import os
from collections.abc import Iterator
from types import ModuleType
from typing import Literal, NamedTuple

import torch

__all__ = ["Backend", "BackendError", "Choice", "backend", "choose", "implementation"]

Backend = Literal["reference", "cpu", "cuda"]
_NAMES = ("reference", "cpu", "cuda")
_wish: contextvars.ContextVar[Backend | None] = contextvars.ContextVar("pointlift_backend", default=None)
_IMPORT_PID = os.getpid()


class BackendError(RuntimeError):
    """A backend was asked for by name and cannot run here."""


class Choice(NamedTuple):
    """The implementation that runs, and why in words."""

    name: Backend
    reason: str


@contextlib.contextmanager
def backend(name: Backend | None) -> Iterator[None]:
    """Run every operation inside the block with one backend; None chooses by device again."""
    if name is not None and name not in _NAMES:
        raise ValueError(f"backend must be one of {', '.join(_NAMES)} or None, got {name!r}.")
    token = _wish.set(name)
    try:
        yield
    finally:
        _wish.reset(token)


def _declined(name: str, operation: str, device: torch.device, dtype: torch.dtype) -> str | None:
    """Why `name` cannot run this operation, or None."""
    if name == "reference":
        return None
    if name == "cpu":
        if device.type != "cpu":
            return f"the tensors are on {device.type}"
        if dtype not in (torch.float32, torch.float64):
            return f"the numba kernels compute in float32 and float64, not {dtype}"
        if os.getpid() != _IMPORT_PID:
            return "this is a forked worker process, where numba's OpenMP threads cannot run"
        return None
    if device.type != "cuda":
        return f"the tensors are on {device.type}"
    try:
        kernel = importlib.util.find_spec(f"pointlift.ops.{operation}.cuda")
    except ModuleNotFoundError:  # an operation of the user's own
        kernel = None
    if kernel is None:
        return f"there is no triton kernel for {operation} yet"
    return None


def choose(
    operation: str, device: torch.device, dtype: torch.dtype = torch.float32, wish: Backend | None = None
) -> Choice:
    """The backend for `operation` on tensors of this device and dtype, and the reason in words.

    Raises BackendError where the caller asked for one by name (argument or `backend(...)`) that cannot run.
    """
    wanted = wish if wish is not None else _wish.get()
    if wanted is not None:
        why_not = _declined(wanted, operation, device, dtype)
        if why_not is not None:
            raise BackendError(
                f"Backend {wanted!r} was asked for {operation}, but {why_not}: leave the choice to pointlift "
                "(None) or move the tensors."
            )
        return Choice(wanted, "asked for by name")
    native: Backend = "cuda" if device.type == "cuda" else "cpu"
    why_not = _declined(native, operation, device, dtype)
    if why_not is None:
        return Choice(native, f"native kernel for {device.type} tensors")
    return Choice("reference", f"{native} kernel not used: {why_not}")


def implementation(
    operation: str, device: torch.device, dtype: torch.dtype = torch.float32, wish: Backend | None = None
) -> ModuleType:
    """The module (reference, cpu or cuda) of `operation` that `choose` picks."""
    return importlib.import_module(f"pointlift.ops.{operation}.{choose(operation, device, dtype, wish).name}")
