"""Features travel with their clouds: through subsets, augmentation, loader processes and pickles,
read from their file.
"""

from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_student import CLASSES, WIDTH, batch, clouds, features, student
from torch import nn

from pointlift.core.point_batch import PointBatch
from pointlift.data.dataset import collate
from pointlift.data.loader import make_loader
from pointlift.data.transforms import scale_shift_augmentation
from pointlift.inflation import inflate
from pointlift.methods.pointcmt.taught_clouds import FEATURES, TaughtClouds
from pointlift.methods.pointcmt.taught_student import TaughtStudent, TeacherJudgement, student_classifier
from pointlift.models import create_model


def mapped(folder: Path, n: int = 6) -> np.ndarray:
    np.save(folder / "features.npy", features(n))
    return np.load(folder / "features.npy", mmap_mode="r")


@pytest.mark.parametrize("workers", [0, 1])
def test_every_cloud_brings_its_own_row(tmp_path: Path, workers: int) -> None:
    rows = mapped(tmp_path)
    guided = TaughtClouds(clouds(), rows)
    loader = make_loader(guided, 2, True, 5, scale_shift_augmentation(), workers)
    order = np.random.default_rng([5, 0]).permutation(6)
    seen = list(loader)
    assert np.array_equal(torch.cat([b.extras[FEATURES] for b in seen]), rows[order])
    assert torch.cat([b.labels["class"] for b in seen]).tolist() == (order % CLASSES).tolist()
    subset = guided.subset([4, 1])
    assert np.array_equal(collate([subset[0], subset[1]]).extras[FEATURES], rows[[4, 1]])
    moved = seen[0].to("cpu")
    assert (
        isinstance(moved, PointBatch)
        and len(moved) == 2
        and torch.equal(moved.extras[FEATURES], seen[0].extras[FEATURES])
    )


def test_a_file_of_features_is_pickled_as_its_name(tmp_path: Path) -> None:
    rows = mapped(tmp_path, 6000)
    guided = TaughtClouds(clouds(6000), rows)._rows
    data = pickle.dumps(guided)
    assert len(data) < 1000 < rows.nbytes
    again = pickle.loads(data)
    assert np.array_equal(again[5], rows[5]) and isinstance(again.array, np.memmap)
    part = pickle.loads(pickle.dumps(TaughtClouds(clouds(6), rows[7:13])._rows))
    assert np.array_equal(part[0], rows[7]), "a part of a file starts elsewhere than its file"
    memory = pickle.loads(pickle.dumps(TaughtClouds(clouds(), features())._rows))
    assert np.array_equal(memory[2], features()[2])


def _row_in_another_process(guided: TaughtClouds, index: int, queue: multiprocessing.Queue) -> None:
    queue.put(guided[index].extras[FEATURES].tolist())


@pytest.mark.slow
def test_a_spawned_process_reads_the_same_row(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(
        target=_row_in_another_process, args=(TaughtClouds(clouds(), mapped(tmp_path)), 3, queue)
    )
    process.start()
    assert queue.get(timeout=60) == features()[3].tolist()
    process.join(60)


def test_encoder_and_classifier_are_the_student() -> None:
    module = TaughtStudent(student(), CLASSES, WIDTH, None).eval()
    points = module.encode(batch())
    assert points.shape == (6, WIDTH) and torch.equal(module.classifier(points), module(batch()))
    assert module.classifier is module.net.classifier and module.student_width == WIDTH


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_inflated_networks_are_split_too(head: str) -> None:
    image = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )
    module = TaughtStudent(
        inflate(image, num_classes=CLASSES, head=head, voxel_size=0.3), CLASSES, WIDTH, None
    ).eval()
    assert module.student_width == (8 if head == "linear" else 1024)
    assert torch.equal(module.classifier(module.encode(batch())), module(batch()))


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"features have shape \(5, 12\), expected \(6, D\)"):
        TaughtClouds(clouds(), features(5))
    with pytest.raises(ValueError, match=r"features have shape \(12,\)"):
        TaughtClouds(clouds(1), features(1)[0])
    image = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )
    with pytest.raises(
        ValueError,
        match=r"ends in BatchNorm1d, expected a fully connected layer .* model\.head linear or mlp",
    ):
        student_classifier(inflate(image, num_classes=3, head="linear-bn"))
    with pytest.raises(
        ValueError, match="LinearNetwork, ends in BatchNorm1d, expected a fully connected layer"
    ):
        student_classifier(create_model("linear-network"))
    with pytest.raises(ValueError, match="Conv2d, cannot be split into an encoder and a classifier"):
        student_classifier(nn.Conv2d(3, 8, 3))
    unlabelled = batch()
    unlabelled.labels["class"][1] = -1
    with pytest.raises(ValueError, match="1 clouds of a batch have no class"):
        TaughtStudent(student(), CLASSES, WIDTH, None).classes(unlabelled)


def test_the_teacher_is_judged_by_its_features() -> None:
    layer = nn.Linear(WIDTH, CLASSES)
    judge = TeacherJudgement(layer, CLASSES)
    assert torch.equal(judge(batch()), layer(torch.from_numpy(features())))
    with pytest.raises(TypeError, match="judged by its features, got a PointBatch without any"):
        judge(collate([clouds()[0]]))
