"""Batches of clouds whose order and augmentation are a function of (seed, epoch, index) and of nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from pointlift.core.sparse_tensor import PointBatch
from pointlift.data.dataset import CloudDataset, collate
from pointlift.data.errors import worker_errors
from pointlift.data.sample import Sample
from pointlift.data.transforms import Augment, Transform

__all__ = ["CloudLoader", "EpochSampler", "make_loader"]

Key = tuple[int, int]


class EpochSampler(Sampler[Key]):
    """Gives (epoch, index) pairs; the epoch travels with the index, so that worker processes need no other news of it.

    Args:
        n: number of clouds.
        shuffle: a new order in every epoch, drawn from (seed, epoch).
        seed: of the order.
        rank, world_size: which part of every epoch is this process'. Process r takes positions r, r + world_size, ...
            of the common order, so that the processes' k-th batches together are the k-th batch of a single process with
            the global batch size. Where the clouds do not divide, the first ones of the order are repeated.

    Raises:
        ValueError: no clouds, or a rank outside 0 .. world_size - 1.
    """

    def __init__(self, n: int, shuffle: bool, seed: int, rank: int = 0, world_size: int = 1) -> None:
        if n < 1:
            raise ValueError("cannot load batches from a dataset of 0 clouds")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} of {world_size} processes does not exist, 0 to {world_size - 1} is expected")
        self.n, self.shuffle, self.seed, self.rank, self.world_size = n, shuffle, seed, rank, world_size
        self.epoch = 0
        self.skip = 0

    def set_epoch(self, epoch: int) -> None:
        """The epoch of the next iteration."""
        self.epoch = int(epoch)

    def __iter__(self) -> Iterator[Key]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.n) if self.shuffle else np.arange(self.n)
        padded = np.resize(order, len(self) * self.world_size)
        for index in padded[self.rank :: self.world_size][self.skip :]:
            yield self.epoch, int(index)

    def __len__(self) -> int:
        return -(-self.n // self.world_size)


class _Keyed(Dataset[Sample]):
    """Looks up (epoch, index) pairs and augments. draw_seed: of clouds that are made anew for every pass; None takes them as they are."""

    def __init__(self, dataset: CloudDataset, augment: Augment | None, draw_seed: int | None) -> None:
        self.dataset, self.augment, self.draw_seed = dataset, augment, draw_seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Key) -> Sample:
        epoch, index = key
        if self.draw_seed is None:
            sample = self.dataset[index]
        else:  # a stream of its own beside the augmentation's
            stream = np.random.SeedSequence([self.draw_seed, epoch, index], spawn_key=(1,))
            sample = self.dataset.draw(index, np.random.default_rng(stream))
        return sample if self.augment is None else self.augment(sample, epoch, index)


class CloudLoader(DataLoader[Any]):
    """A DataLoader of :class:`~pointlift.core.sparse_tensor.PointBatch`, made by :func:`make_loader`.

    It can be resumed in the middle of an epoch: :meth:`state_dict` says how many batches have been handed out, and after
    :meth:`load_state_dict` the next iteration over that epoch goes on behind them. Lightning calls both, and
    ``sampler.set_epoch`` at the start of every epoch; it must be told ``use_distributed_sampler=False``.
    """

    sampler: EpochSampler
    _handed_out: int = 0
    _resume: Key | None = None

    def set_epoch(self, epoch: int) -> None:
        """The epoch of the next iteration; the order and every augmentation follow from it."""
        self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[PointBatch]:  # type: ignore[override]
        start = 0
        if self._resume is not None and self._resume[0] == self.sampler.epoch:
            start = self._resume[1]
        self._resume = None
        self._handed_out = start
        self.sampler.skip = start * (self.batch_size or 1)
        # the iterator asks the sampler for its first keys at once when there are workers, and at the first batch without
        with worker_errors():
            for batch in super().__iter__():
                self._handed_out += 1
                yield batch

    def state_dict(self) -> dict[str, int]:
        """The epoch, and how many of its batches have been handed out."""
        return {"epoch": self.sampler.epoch, "batches": self._handed_out}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on behind ``state["batches"]`` batches when ``state["epoch"]`` is iterated next; other epochs start at their beginning."""
        self._resume = (int(state["epoch"]), int(state["batches"]))
        self.sampler.set_epoch(int(state["epoch"]))


def make_loader(
    dataset: CloudDataset,
    batch_size: int,
    shuffle: bool = False,
    seed: int = 0,
    augment: Transform | None = None,
    num_workers: int = 0,
    drop_last: bool = False,
    rank: int = 0,
    world_size: int = 1,
) -> CloudLoader:
    """Batches of ``dataset``.

    Args:
        dataset: the clouds.
        batch_size: clouds per batch (of each process).
        shuffle: a pass of training: a new order in every epoch, see ``set_epoch``, and datasets that make their clouds anew for every
            pass (``CloudDataset.draw``) do so.
        seed: of order and augmentation.
        augment: a transform applied to every cloud, with a generator made from (seed, epoch, index of the cloud).
        num_workers: processes that read and augment; the batches do not depend on it.
        drop_last: leave out the last batch of an epoch when it is smaller than the others.
        rank, world_size: this process and how many share every epoch; see :class:`EpochSampler`.

    Raises:
        ValueError: an empty dataset, a batch size below 1, or ``drop_last`` where no full batch exists.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, at least 1 is expected")
    sampler = EpochSampler(len(dataset), shuffle, seed, rank, world_size)
    if drop_last and len(sampler) < batch_size:
        raise ValueError(f"{dataset.name}: {len(sampler)} clouds give no full batch of {batch_size}, use a smaller batch_size")
    return CloudLoader(
        _Keyed(dataset, None if augment is None else Augment(augment, seed), seed if shuffle else None),
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=collate,
        drop_last=drop_last,
        persistent_workers=num_workers > 0,
        pin_memory=False,
        generator=torch.Generator().manual_seed(seed),  # DataLoader draws worker seeds: not from the global generator
    )
