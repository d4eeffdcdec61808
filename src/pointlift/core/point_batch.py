"""`PointBatch`: ragged clouds, concatenated and never padded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["PointBatch"]


class PointBatch:
    """A batch of B clouds of different lengths, concatenated and never padded.

    Args:
        xyz: (N, 3) float32, metres for scenes and unit sphere for objects.
        features: (N, C) or None.
        offsets: (B + 1,) int64; cloud b is rows offsets[b]:offsets[b + 1].
        labels: what is known and to be learned, e.g. {"class": (B,), "part": (N,)}.
        extras: whatever else travels with the clouds, e.g. {"teacher_features": (B, D)}: tensors, and things
            with a `to` of their own such as another PointBatch, move with it.

    Raises ValueError for wrong shapes, offsets that do not cover the rows,
    and coordinates that are NaN or infinite.
    """

    def __init__(
        self,
        xyz: Tensor,
        features: Tensor | None,
        offsets: Tensor,
        labels: dict[str, Any] | None = None,
        extras: dict[str, Any] | None = None,
    ) -> None:
        _check(xyz, features, offsets)
        self.xyz, self.features, self.offsets = xyz, features, offsets
        self.labels = {} if labels is None else labels
        self.extras = {} if extras is None else extras

    @staticmethod
    def trusted(
        xyz: Tensor,
        features: Tensor | None,
        offsets: Tensor,
        labels: dict[str, Any] | None = None,
        extras: dict[str, Any] | None = None,
    ) -> PointBatch:
        """A batch of what is known to be right, because it came out of another one:
        nothing is checked, no device is waited for.
        """
        new = PointBatch.__new__(PointBatch)
        new.xyz, new.features, new.offsets = xyz, features, offsets
        new.labels, new.extras = labels or {}, extras or {}
        return new

    @staticmethod
    def from_list(
        xyz: Sequence[Tensor | np.ndarray],
        features: Sequence[Tensor | np.ndarray] | None = None,
        labels: dict[str, Any] | None = None,
        extras: dict[str, Any] | None = None,
    ) -> PointBatch:
        """Join clouds `xyz[i]` (N_i, 3), with optional `features[i]` (N_i, C), into one batch;
        an empty cloud is allowed.
        """
        clouds = [torch.as_tensor(c).to(torch.float32) for c in xyz]
        clouds = [c.reshape(-1, 3) if len(c) == 0 else c for c in clouds]
        for i, c in enumerate(clouds):
            if c.ndim != 2 or c.shape[1] != 3:
                raise ValueError(f"Cloud {i} must have shape (N, 3), got {tuple(c.shape)}.")
        lengths = torch.tensor([0, *(c.shape[0] for c in clouds)], dtype=torch.int64)
        joined = torch.cat(clouds) if clouds else torch.zeros(0, 3)
        feats = None
        if features is not None:
            if len(features) != len(clouds):
                raise ValueError(
                    f"features must have one entry per cloud ({len(clouds)}), got {len(features)}."
                )
            parts = [torch.as_tensor(f) for f in features]
            for i, (f, c) in enumerate(zip(parts, clouds)):
                if f.ndim != 2 or f.shape[0] != c.shape[0]:
                    raise ValueError(
                        f"features of cloud {i} must have shape ({c.shape[0]}, C), got {tuple(f.shape)}."
                    )
            feats = torch.cat(parts) if parts else None
        return PointBatch(joined, feats, lengths.cumsum(0), dict(labels or {}), dict(extras or {}))

    def __len__(self) -> int:
        return self.offsets.numel() - 1

    @property
    def batch(self) -> Tensor:
        """(N,) int64: the cloud each point belongs to."""
        counts = self.offsets[1:] - self.offsets[:-1]
        return torch.repeat_interleave(
            torch.arange(len(self), device=self.xyz.device), counts.to(self.xyz.device)
        )

    @property
    def device(self) -> torch.device:
        return self.xyz.device

    def __getitem__(self, index: int) -> PointBatch:
        """Cloud `index` alone. Labels with one entry per cloud or per point are cut along with it."""
        b = range(len(self))[index]
        lo, hi = int(self.offsets[b]), int(self.offsets[b + 1])
        n, count = self.xyz.shape[0], len(self)

        ambiguous = n == count and bool((self.offsets.diff() != 1).any())

        def cut(value: Any) -> Any:
            if ambiguous and isinstance(value, Tensor) and value.ndim and value.shape[0] == count:
                raise ValueError(
                    f"{count} clouds have {n} points together, "
                    "so that labels per cloud and per point look alike: drop the empty clouds."
                )
            if isinstance(value, Tensor) and value.ndim and value.shape[0] == count:
                return value[b : b + 1]
            if isinstance(value, Tensor) and value.ndim and value.shape[0] == n:
                return value[lo:hi]
            if isinstance(value, (list, tuple)) and len(value) == count:
                return value[b : b + 1]
            if isinstance(value, PointBatch) and len(value) == count:
                return value[b]
            return value

        features = None if self.features is None else self.features[lo:hi]
        offsets = torch.tensor([0, hi - lo], dtype=torch.int64, device=self.offsets.device)
        labels, extras = ({k: cut(v) for k, v in known.items()} for known in (self.labels, self.extras))
        return PointBatch(self.xyz[lo:hi], features, offsets, labels, extras)

    def dense(self) -> Tensor:
        """(B, N, 3); raises ValueError where the clouds differ in length, because nothing here pads."""
        counts = (self.offsets[1:] - self.offsets[:-1]).tolist()
        if len(set(counts)) > 1:
            raise ValueError(
                f"dense() needs clouds of one length, got {min(counts)} to {max(counts)} points: "
                "resample them to one number first."
            )
        return self.xyz.reshape(len(self), counts[0] if counts else 0, 3)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PointBatch:
        """Everything on `device`: coordinates, features, offsets and every tensor among the labels and
        extras.
        """
        return self._each(
            lambda value: value.to(device, non_blocking=non_blocking) if hasattr(value, "to") else value
        )

    def pin_memory(self) -> PointBatch:
        """Everything in page-locked memory."""
        return self._each(lambda value: value.pin_memory() if hasattr(value, "pin_memory") else value)

    def _each(self, change: Callable[[Any], Any]) -> PointBatch:
        """`change` applied to every member. Not checked again:
        that would wait for the device at every move.
        """
        features = None if self.features is None else change(self.features)
        labels, extras = (
            {k: [change(e) for e in v] if isinstance(v, list) else change(v) for k, v in known.items()}
            for known in (self.labels, self.extras)
        )
        return PointBatch.trusted(change(self.xyz), features, change(self.offsets), labels, extras)

    def __repr__(self) -> str:
        channels = "no features" if self.features is None else f"{self.features.shape[1]} channels"
        return f"PointBatch({len(self)} clouds, {len(self.xyz)} points, {channels}, {self.xyz.device})"


def _check(xyz: Tensor, features: Tensor | None, offsets: Tensor) -> None:
    if xyz.ndim != 2 or xyz.shape[1] != 3:
        raise ValueError(
            f"xyz of a PointBatch must have shape (N, 3), got {tuple(xyz.shape)}: pass one row per point."
        )
    n = xyz.shape[0]
    if features is not None and (features.ndim != 2 or features.shape[0] != n):
        raise ValueError(
            f"features must have shape ({n}, C) like xyz's {n} points, got {tuple(features.shape)}."
        )
    o = offsets
    if o.ndim != 1 or o.numel() < 1 or int(o[0]) != 0 or int(o[-1]) != n or bool((o[1:] < o[:-1]).any()):
        raise ValueError(
            f"offsets must rise from 0 to the number of points ({n}), got {o.tolist()[:8]}: "
            "use PointBatch.from_list."
        )
    if n and not bool(torch.isfinite(xyz).all()):
        bad = (~torch.isfinite(xyz)).any(1)
        first = int(bad.nonzero()[0])
        raise ValueError(
            f"{int(bad.sum())} of {n} points have NaN or infinite coordinates (first: row {first}); "
            "remove them before making a PointBatch."
        )
