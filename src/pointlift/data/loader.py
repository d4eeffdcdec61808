"""Batches of clouds whose order and augmentation are a function of (seed, epoch, index) and of nothing
else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lightning
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from pointlift.data.dataset import CloudDataset, collate
from pointlift.data.errors import worker_errors
from pointlift.data.sample import Sample
from pointlift.data.transforms import Augment, Transform

__all__ = ["EpochLoader", "EpochSampler", "Key", "KeyedClouds", "KeyedData", "Loaders", "make_loader"]

Key = tuple[int, int]


class EpochSampler(Sampler[Key]):
    """Gives (epoch, index) pairs; the epoch travels with the index,
    so that worker processes need no other news of it.

    Args:
        n: number of items, such as clouds.
        shuffle: a new order in every epoch, drawn from (seed, epoch).
        seed: of the order.
        rank, world_size: which part of every epoch is this process'. Process r takes positions r, r +
            world_size, ... of the common order, so that the processes' k-th batches together are the k-th
            batch of a single process with the global batch size. Where the items do not divide, the first
            ones of a shuffled order are repeated; in the order of the data none is given twice, and processes
            have unequal shares.

    Raises:
        ValueError: no items for this process, or a rank outside 0 .. world_size - 1.
    """

    repeats = True  # False: what does not divide of a shuffled order is left out instead

    def __init__(self, n: int, shuffle: bool, seed: int = 0, rank: int = 0, world_size: int = 1) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(
                f"rank {rank} of {world_size} processes does not exist, 0 to {world_size - 1} is expected"
            )
        self.n, self.shuffle, self.seed, self.rank, self.world_size = n, shuffle, seed, rank, world_size
        self.epoch = 0
        self.skip = 0  # so many are left out at the start: those that a resumed epoch has seen
        if not len(self):
            raise ValueError("cannot load batches from a dataset of 0 clouds")

    def set_epoch(self, epoch: int) -> None:
        """The epoch of the next iteration; Lightning says it, also when a run is resumed."""
        self.epoch = int(epoch)

    def permutation(self) -> npt.NDArray[np.int64]:
        """``(n,)``: the common order of this epoch where it is shuffled."""
        return np.random.default_rng([self.seed, self.epoch]).permutation(self.n)

    def __iter__(self) -> Iterator[Key]:
        order = self.permutation() if self.shuffle else np.arange(self.n)
        if self.shuffle and self.repeats:
            order = np.resize(order, len(self) * self.world_size)
        for index in order[self.rank :: self.world_size][self.skip : len(self)]:
            yield self.epoch, int(index)

    def __len__(self) -> int:
        if not self.shuffle:
            return len(range(self.rank, self.n, self.world_size))
        return -(-self.n // self.world_size) if self.repeats else self.n // self.world_size


class KeyedData(Dataset[Any]):
    """What a loader reads: items that are looked up by (epoch, index),
    and how a batch is made of them. Pickles, for loader processes.
    """

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, key: Key) -> Any:
        raise NotImplementedError

    def collate(self, items: Sequence[Any]) -> Any:
        """The batch of some items: tensors of one shape are stacked."""
        return default_collate(list(items))


class KeyedClouds(KeyedData):
    """The clouds of a dataset, transformed.

    Args:
        dataset: the clouds.
        transform: applied to every cloud, with a generator made from (seed, epoch, index of the cloud);
            None: none.
        seed: of the transform, and of clouds that are made anew for every pass.
        anew: a pass of training, for which datasets whose clouds are made anew for every pass
            (``CloudDataset.draw``) do so.
        join: makes a batch of samples.
    """

    def __init__(
        self,
        dataset: CloudDataset,
        transform: Transform | None = None,
        seed: int = 0,
        anew: bool = False,
        join: Callable[[Sequence[Sample]], Any] = collate,
    ) -> None:
        self.dataset, self.seed, self.anew, self.join = dataset, seed, anew, join
        self.augment = None if transform is None else Augment(transform, seed)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Key) -> Sample:
        epoch, index = key
        if self.anew:  # a stream of its own beside the augmentation's
            stream = np.random.SeedSequence([self.seed, epoch, index], spawn_key=(1,))
            sample = self.dataset.draw(index, np.random.default_rng(stream))
        else:
            sample = self.dataset[index]
        return sample if self.augment is None else self.augment(sample, epoch, index)

    def collate(self, items: Sequence[Sample]) -> Any:
        return self.join(items)


class EpochLoader(DataLoader[Any]):
    """A DataLoader of the batches that ``dataset`` makes of its items, which ``sampler`` names.

    It can be resumed in the middle of an epoch: :meth:`state_dict` says how many batches have been handed
    out, and after :meth:`load_state_dict` the next iteration over that epoch goes on behind them. Lightning
    calls both, and ``sampler.set_epoch`` at the start of every epoch; it must be told
    ``use_distributed_sampler=False``.
    """

    sampler: EpochSampler
    _handed_out: int = 0
    _resume: Key | None = None

    def __init__(
        self,
        dataset: KeyedData,
        batch_size: int,
        sampler: EpochSampler,
        num_workers: int = 0,
        drop_last: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=num_workers,
            collate_fn=dataset.collate,
            drop_last=drop_last,
            persistent_workers=num_workers > 0,
            # DataLoader draws worker seeds: not from the global generator
            generator=torch.Generator().manual_seed(seed),
        )

    def set_epoch(self, epoch: int) -> None:
        """The epoch of the next iteration; the order and every augmentation follow from it."""
        self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        start = 0
        if self._resume is not None and self._resume[0] == self.sampler.epoch:
            start = self._resume[1]
        self._resume = None
        self._handed_out = start
        self.sampler.skip = start * (self.batch_size or 1)
        # the iterator asks the sampler for its first keys at once when there are workers,
        # and at the first batch without
        with worker_errors():
            for batch in super().__iter__():
                self._handed_out += 1
                yield batch

    def state_dict(self) -> dict[str, int]:
        """The epoch, and how many of its batches have been handed out."""
        return {"epoch": self.sampler.epoch, "batches": self._handed_out}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on behind ``state["batches"]`` batches when ``state["epoch"]`` is iterated next;
        other epochs start at their beginning.
        """
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
) -> EpochLoader:
    """Batches of ``dataset``.

    Args:
        dataset: the clouds.
        batch_size: clouds per batch (of each process).
        shuffle: a pass of training: a new order in every epoch, see ``set_epoch``, and datasets that make
            their clouds anew for every pass (``CloudDataset.draw``) do so.
        seed: of order and augmentation.
        augment: a transform applied to every cloud, with a generator made from (seed, epoch,
            index of the cloud).
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
        raise ValueError(
            f"{dataset.name}: {len(sampler)} clouds give no full batch of {batch_size}, "
            "use a smaller batch_size"
        )
    data = KeyedClouds(dataset, augment, seed, anew=shuffle)
    return EpochLoader(data, batch_size, sampler, num_workers, drop_last, seed)


class Loaders(lightning.LightningDataModule):
    """The loaders of a run, whatever its batches are of.

    Every training step takes ``batch_size`` items of a common order and shares them equally among the
    devices, so that the mean of the devices' gradients is the gradient of the whole batch; an incomplete last
    batch of an epoch is left out. In evaluation every item is seen once.

    Args:
        train, val, test: what is trained on, what every epoch is evaluated on,
            and what at the end (None: nothing more).
        batch_size: items per training step, over all devices.
        seed: of the order.
        world_size: devices.
        num_workers: loader processes of every device.
        evaluation_batch: items per evaluation batch and device; None: as many as in training.
        order: which items come when.
        name, items, setting: what the data, the items and the batch size are called in messages.

    Attributes:
        local_batch: items per training step and device.
        steps_per_epoch: training steps.

    Raises:
        ValueError: batch size and devices do not divide, or there are fewer training items than devices.
    """

    def __init__(
        self,
        train: KeyedData,
        val: KeyedData,
        test: KeyedData | None = None,
        *,
        batch_size: int,
        seed: int,
        world_size: int = 1,
        num_workers: int = 0,
        evaluation_batch: int | None = None,
        order: Callable[[int, bool, int, int, int], EpochSampler] = EpochSampler,
        name: str = "clouds",
        items: str = "clouds",
        setting: str = "data.batch_size",
    ) -> None:
        super().__init__()
        self.train, self.val, self.test, self.order, self.seed, self.num_workers = (
            train,
            val,
            test,
            order,
            seed,
            num_workers,
        )
        if batch_size % world_size:
            raise ValueError(
                f"{setting} is {batch_size} {items} over all devices, "
                f"which {world_size} devices cannot share equally: use a multiple of {world_size}."
            )
        self.local_batch = min(batch_size, len(train)) // world_size
        self.evaluation_batch = evaluation_batch or batch_size // world_size
        if self.local_batch < 1:
            raise ValueError(f"{name}: {len(train)} training {items} are too few for {world_size} devices.")
        self.steps_per_epoch = len(train) // (self.local_batch * world_size)

    def train_dataloader(self) -> EpochLoader:
        return self._loader(self.train, True)

    def val_dataloader(self) -> EpochLoader:
        return self._loader(self.val, False)

    def test_dataloader(self) -> EpochLoader:
        assert self.test is not None
        return self._loader(self.test, False)

    def _loader(self, data: KeyedData, training: bool) -> EpochLoader:
        rank, world_size = (
            (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)
        )
        sampler = self.order(len(data), training, self.seed, rank, world_size)
        size = self.local_batch if training else self.evaluation_batch
        return EpochLoader(data, size, sampler, self.num_workers, training, self.seed)
