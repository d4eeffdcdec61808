"""Batches must not depend on workers, processes or interruptions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from pointlift.core.sparse_tensor import PointBatch
from pointlift.data.dataset import CloudDataset, collate
from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.loader import EpochLoader, EpochSampler, KeyedData, Loaders, make_loader
from pointlift.data.sample import Sample
from pointlift.data.transforms import modelnet_augmentation, take_points


def clouds(n: int = 13) -> CloudDataset:
    rng = np.random.default_rng(0)
    return CloudDataset(
        [Sample(rng.normal(size=(5 + i % 3, 3)), i % 3, path=str(i)) for i in range(n)], ("a", "b", "c")
    )


def loader(**changes: object) -> EpochLoader:
    arguments: dict = {
        "batch_size": 4,
        "shuffle": True,
        "seed": 3,
        "augment": modelnet_augmentation(),
        **changes,
    }
    return make_loader(arguments.pop("dataset", clouds()), **arguments)


def run(batches: EpochLoader, epochs: Sequence[int]) -> list[Tensor]:
    found = []
    for epoch in epochs:
        batches.set_epoch(epoch)
        found += [batch.xyz for batch in batches]
    return found


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second))


def test_batches_are_point_batches() -> None:
    batch = next(iter(loader(shuffle=False, augment=None)))
    assert isinstance(batch, PointBatch) and len(batch) == 4
    assert batch.labels["class"].tolist() == [0, 1, 2, 0] and batch.offsets.tolist() == [0, 5, 11, 18, 23]


def test_order_and_augmentation_follow_from_seed_and_epoch() -> None:
    reference = run(loader(), [0, 1, 2])
    assert same(reference, run(loader(), [0, 1, 2]))
    assert same(reference[4:8], run(loader(), [1]))  # an epoch does not depend on those before it
    assert not same(reference[:4], reference[4:8]) and not same(reference[:4], run(loader(seed=4), [0]))


def test_every_cloud_once_per_epoch() -> None:
    for epoch in range(3):
        batches = loader(augment=None)
        batches.set_epoch(epoch)
        seen = torch.cat([b.xyz for b in batches])
        expected = torch.cat([torch.from_numpy(clouds()[i].xyz) for i in range(13)])
        assert torch.equal(seen[seen[:, 0].argsort()], expected[expected[:, 0].argsort()])


def test_workers_give_the_same_batches() -> None:
    assert same(run(loader(), [0, 1]), run(loader(num_workers=2), [0, 1]))


@dataclass(frozen=True)
class _Reader:
    """Reads clouds, of which one cannot be read."""

    error: type[Exception]

    def __call__(self, path: str, label: int, index: int) -> Sample:
        if index == 5:
            raise self.error("shelf/5.png: cannot be read; replace the file")
        return clouds()[index]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("error", [DataError, MissingDataError, OSError])
def test_what_cannot_be_read_is_one_sentence(error: type[Exception], workers: int) -> None:
    dataset = CloudDataset.from_paths(
        [str(i) for i in range(13)], [i % 3 for i in range(13)], _Reader(error), ("a", "b", "c")
    )
    with pytest.raises(error) as raised:
        run(loader(dataset=dataset, num_workers=workers), [0])
    assert str(raised.value) == "shelf/5.png: cannot be read; replace the file"


def test_the_global_generators_are_left_alone() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    run(loader(), [0, 1])
    assert torch.equal(before, torch.get_rng_state()) and (numpy_before == np.random.get_state()[1]).all()


def test_processes_share_an_epoch() -> None:
    whole = run(loader(dataset=clouds(16), batch_size=4), [0, 1])
    parts = [run(loader(dataset=clouds(16), batch_size=2, rank=r, world_size=2), [0, 1]) for r in range(2)]
    for step, batch in enumerate(whole):
        together = torch.cat([parts[0][step], parts[1][step]])
        assert torch.equal(together[together[:, 0].argsort()], batch[batch[:, 0].argsort()])
    # 13 clouds: 7 each, one of them twice
    assert {len(loader(rank=r, world_size=2)) for r in range(2)} == {2}


def test_drop_last() -> None:
    assert len(run(loader(drop_last=True), [0])) == len(loader(drop_last=True)) == 3
    with pytest.raises(ValueError, match="no full batch"):
        loader(drop_last=True, batch_size=14)


@pytest.mark.parametrize("workers", [0, 2])
def test_resumes_in_the_middle_of_an_epoch(workers: int) -> None:
    reference = run(loader(), [2, 3])
    first = loader(num_workers=workers)
    first.set_epoch(2)
    walk = iter(first)
    begun = [next(walk).xyz for _ in range(2)]
    state = first.state_dict()
    assert state == {"epoch": 2, "batches": 2}
    second = loader(num_workers=workers)
    second.load_state_dict(state)
    rest = run(second, [2, 3])
    assert same(reference, begun + rest)
    second.load_state_dict(state)
    assert same(run(second, [3]), reference[4:])  # another epoch starts at its beginning


def test_bad_arguments() -> None:
    for changes, words in (
        ({"batch_size": 0}, "batch_size is 0"),
        ({"dataset": clouds().subset([])}, "0 clouds"),
        ({"rank": 2, "world_size": 2}, "rank 2 of 2"),
    ):
        with pytest.raises(ValueError, match=words):
            loader(**changes)


def test_scenes_boxes_poses_and_frames_travel_with_their_clouds() -> None:
    def scene(n: int, boxes: int, frames: int) -> Sample:
        return Sample(
            np.arange(3 * n).reshape(n, 3), part=np.arange(n), instance=np.arange(n) - 1,
            boxes=np.full((boxes, 7), n), box_labels=np.arange(boxes), pose=n * np.eye(4),
            extras={"frames": np.full((frames, 2, 2, 3), n, dtype=np.uint8)},
        )  # fmt: skip

    one, two = scene(4, 2, 1), scene(3, 0, 1)
    some = take_points(one, np.array([2, 0]))
    assert (
        some.instance is not None
        and some.instance.tolist() == [1, -1]
        and some.part is not None
        and some.part.tolist() == [2, 0]
    )
    assert some.boxes is one.boxes and some.pose is one.pose and some.extras is one.extras
    batch = collate([one, two]).to("cpu")
    assert batch.labels["instance"].tolist() == [-1, 0, 1, 2, -1, 0, 1]
    assert [b.shape for b in batch.labels["boxes"]] == [(2, 7), (0, 7)] and [
        len(b) for b in batch.labels["box_labels"]
    ] == [2, 0]
    assert batch.extras["pose"].shape == (2, 4, 4) and batch.extras["pose"][1, 0, 0] == 3
    assert batch.extras["frames"].shape == (2, 1, 2, 2, 3) and batch.extras["frames"].dtype == torch.uint8
    assert [f.shape[0] for f in collate([one, scene(3, 0, 2)]).extras["frames"]] == [1, 2]
    assert batch[1].labels["boxes"][0].shape == (0, 7) and batch[1].labels["instance"].tolist() == [-1, 0, 1]
    bare = collate([one, Sample(np.zeros((3, 3)))])
    assert set(bare.labels) == {"class"} and not bare.extras
    assert set(collate([Sample(np.zeros((3, 3)), boxes=np.zeros((1, 7)))]).labels) == {"class", "boxes"}


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("part", np.zeros(2), r"part labels have shape \(2,\), \(3,\) is expected"),
        ("instance", np.zeros(2), r"instances have shape \(2,\), \(3,\)"),
        ("boxes", np.zeros((1, 6)), r"boxes have shape \(1, 6\), \(1, 7\)"),
        ("box_labels", np.zeros(2), r"labels of boxes have shape \(2,\), \(0,\)"),
        ("pose", np.eye(3), r"the pose has shape \(3, 3\), \(4, 4\)"),
    ],
)
def test_labels_of_another_shape(field: str, value: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=f"x.ply: {words}"):
        Sample(np.zeros((3, 3)), path="x.ply", **{field: value})  # type: ignore[arg-type]


def test_collate_keeps_features_and_parts() -> None:
    a = Sample(np.zeros((2, 3)), 1, np.ones((2, 4)), "a", np.array([5, 6]))
    b = Sample(np.zeros((3, 3)), 0, np.ones((3, 4)), "b", np.array([1, 2, 3]))
    batch = collate([a, b])
    assert (
        batch.features is not None
        and batch.features.shape == (5, 4)
        and batch.labels["part"].tolist() == [5, 6, 1, 2, 3]
    )
    bare = Sample(np.zeros((3, 3)), 0, None, "bare")
    assert "part" not in collate([bare, bare]).labels and collate([bare]).features is None
    with pytest.raises(ValueError, match="bare has no features"):
        collate([a, bare])
    with pytest.raises(ValueError, match="0 clouds"):
        collate([])
    with pytest.raises(ValueError, match=r"\[2, 4\] feature channels"):
        collate([a, Sample(np.zeros((2, 3)), 0, np.ones((2, 2)))])


class Tiny(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 3)
        self.losses: list[float] = []

    def training_step(self, batch: PointBatch, _: int) -> Tensor:
        loss = self.layer(batch.xyz).square().mean()
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)

    def transfer_batch_to_device(
        self, batch: PointBatch, device: torch.device, dataloader_idx: int
    ) -> PointBatch:
        return batch


def fit(model: Tiny, folder: Path, checkpoint: str | None = None) -> None:
    """3 epochs of 4 batches, with a checkpoint after every step and after every epoch."""
    each = ModelCheckpoint(
        folder, "step{step}", every_n_train_steps=1, save_top_k=-1, auto_insert_metric_name=False
    )
    ends = ModelCheckpoint(
        folder,
        "end{epoch}",
        every_n_epochs=1,
        save_top_k=-1,
        auto_insert_metric_name=False,
        save_on_train_epoch_end=True,
    )
    trainer = lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        callbacks=[each, ends],
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(model, loader(), ckpt_path=checkpoint)


@pytest.mark.slow
def test_lightning_resumes_the_same_stream(tmp_path: Path) -> None:
    """A run resumed from a checkpoint of any step sees what the uninterrupted run saw after it,
    and ends with its weights.
    """
    whole = Tiny()
    fit(whole, tmp_path / "whole")
    assert len(whole.losses) == 12 == len(set(whole.losses))
    for name, done in {
        "step1": 1,
        "step3": 3,
        "step4": 4,
        "step5": 5,
        "step8": 8,
        "step11": 11,
        "end0": 4,
        "end1": 8,
    }.items():
        second = Tiny()
        fit(second, tmp_path / name, str(tmp_path / "whole" / f"{name}.ckpt"))
        assert second.losses == whole.losses[done:], name
        assert torch.equal(whole.layer.weight, second.layer.weight), name


class Squares(KeyedData):
    """Numbers and their squares, which need no clouds."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        return torch.tensor([key[1], key[1] ** 2]), key[0]


def test_loaders_of_any_items() -> None:
    data = Loaders(Squares(11), Squares(5), batch_size=4, seed=1, evaluation_batch=3)
    assert (data.local_batch, data.steps_per_epoch, data.test) == (4, 2, None)
    train = data.train_dataloader()
    train.set_epoch(2)
    batches = list(train)
    assert len(batches) == 2 and all(
        numbers.shape == (4, 2) and epochs.tolist() == [2] * 4 for numbers, epochs in batches
    )
    assert [numbers[:, 0].tolist() for numbers, _ in data.val_dataloader()] == [[0, 1, 2], [3, 4]]


def test_devices_share_training_and_see_every_item_of_evaluation_once() -> None:
    class Place:
        world_size = 2

        def __init__(self, rank: int) -> None:
            self.global_rank = rank

    seen = []
    for rank in range(2):
        data = Loaders(Squares(12), Squares(5), batch_size=4, seed=1, world_size=2)
        data.trainer = Place(rank)  # type: ignore[assignment]
        assert (data.local_batch, data.steps_per_epoch) == (2, 3)
        loaders = data.train_dataloader(), data.val_dataloader()
        seen.append([[int(i) for numbers, _ in loader for i in numbers[:, 0]] for loader in loaders])
    assert sorted(seen[0][0] + seen[1][0]) == list(range(12)) and [len(s[0]) for s in seen] == [6, 6]
    assert (seen[0][1], seen[1][1]) == ([0, 2, 4], [1, 3])


def test_sizes_that_do_not_fit_the_devices() -> None:
    with pytest.raises(
        ValueError,
        match=(
            r"optim\.batch_size is 5 pictures over all devices, which 2 devices cannot share equally: "
            r"use a "
        ),
    ):
        Loaders(
            Squares(9),
            Squares(2),
            batch_size=5,
            seed=0,
            world_size=2,
            items="pictures",
            setting="optim.batch_size",
        )
    with pytest.raises(ValueError, match="mine: 3 training clouds are too few for 4 devices"):
        Loaders(Squares(3), Squares(2), batch_size=8, seed=0, world_size=4, name="mine")
    with pytest.raises(ValueError, match="0 clouds"):
        EpochSampler(1, False, 0, 1, 2)
