"""Part segmentation as a method: its loss, its metrics over batches, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pointlift.core.point_batch import PointBatch
from pointlift.data.part_labels import PartLabels
from pointlift.evaluate.parts import part_metrics, predicted_parts
from pointlift.methods.method import DivergenceError
from pointlift.methods.segmentation.parts import PartIoU, PartLabelling
from pointlift.models.points.pointnet2_parts import PointNet2Parts

LABELS = PartLabels.numbered(("mug", "lamp"), ((0, 1), (2, 3, 4)))


def network() -> PointNet2Parts:
    torch.manual_seed(0)
    small: dict[str, Any] = {
        "npoint": (8,),
        "radii": (0.5,),
        "nsample": (8,),
        "mlps": ((8,),),
        "global_mlp": (8,),
        "dropout": 0.0,
    }
    return PointNet2Parts(3, 5, 2, **small, propagation=((8,), (8,)), head=(8,))


def batch(sizes: tuple[int, ...], category: list[int], seed: int = 0, part: bool = True) -> PointBatch:
    rng = np.random.default_rng(seed)
    xyz = [rng.normal(size=(n, 3)).astype(np.float32) for n in sizes]
    labels = {"class": torch.tensor(category)}
    if part:
        drawn = [rng.choice(LABELS.parts[c], n) for c, n in zip(category, sizes)]
        labels["part"] = torch.from_numpy(np.concatenate(drawn))
    return PointBatch.from_list(xyz, labels=labels)


def test_the_loss_is_the_mean_over_points() -> None:
    module = PartLabelling(network(), LABELS)
    cloud = batch((20, 9), [0, 1])
    module.log = lambda *a, **k: None  # type: ignore[method-assign]  # there is no trainer
    loss = module.training_step(cloud, 0)
    log_p = module.net(cloud).log_softmax(1)
    expected = -sum(log_p[i, int(p)] for i, p in enumerate(cloud.labels["part"])) / 29
    assert torch.allclose(loss, expected, atol=1e-6)
    assert module.train_loss.compute() == pytest.approx(float(loss.detach()))


# which is what it tests at its end
@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric PartIoU was called before")
@pytest.mark.parametrize("restrict", [True, False])
@torch.no_grad()
def test_validation_adds_up_over_batches(restrict: bool) -> None:
    module = PartLabelling(network(), LABELS, restrict).eval()
    batches = [batch((20, 9, 5), [0, 1, 1], 1), batch((11,), [0], 2)]
    for index, part in enumerate(batches):
        module.validation_step(part, index)
    logged: dict[str, float] = {}
    module.log = lambda name, value, **k: logged.update({name: float(value)})  # type: ignore[method-assign]
    module.on_validation_epoch_end()
    allowed = torch.from_numpy(LABELS.allowed())
    predicted, truth, category = [], [], []
    for cloud in batches:
        found = predicted_parts(module.net(cloud), cloud.labels["class"], cloud.offsets, allowed, restrict)
        sizes = cloud.offsets.diff().tolist()
        predicted += [p.numpy() for p in found.split(sizes)]
        truth += [p.numpy() for p in cloud.labels["part"].split(sizes)]
        category += cloud.labels["class"].tolist()
    expected = part_metrics(predicted, truth, category, LABELS)
    assert logged["val_instance_miou"] == pytest.approx(expected.instance_miou)
    assert logged["val_class_miou"] == pytest.approx(expected.class_miou)
    assert logged["val_point_accuracy"] == pytest.approx(expected.point_accuracy)
    assert set(logged) == {"val_loss", "val_instance_miou", "val_class_miou", "val_point_accuracy"}
    module.on_validation_epoch_start()
    with pytest.raises(ValueError, match="no shapes"):
        module.part_iou.result()


def test_states_are_summed_over_processes() -> None:
    one, two, both = PartIoU(LABELS), PartIoU(LABELS), PartIoU(LABELS)
    allowed = torch.from_numpy(LABELS.allowed())
    for seed, metric in ((1, one), (2, two)):
        cloud = batch((20, 9), [0, 1], seed)
        guess = cloud.labels["part"].roll(3) % 5
        for m in (metric, both):
            m.update(guess, cloud.labels["part"], cloud.labels["class"], cloud.offsets, allowed)
    merged = {name: one.compute()[name] + two.compute()[name] for name in one.compute()}
    assert all(torch.allclose(merged[name], value) for name, value in both.compute().items())
    assert set(both._reductions) == set(merged) and both.result().shapes.tolist() == [2, 2]


def test_what_is_refused() -> None:
    module = PartLabelling(network(), LABELS)
    with pytest.raises(ValueError, match="no part labels"):
        module.training_step(batch((5, 5), [0, 1], part=False), 0)
    nameless = batch((5, 5), [0, 1])
    nameless.labels["class"] = torch.tensor([0, -1])
    with pytest.raises(ValueError, match="no category"):
        module.validation_step(nameless, 0)
    unknown = batch((5, 5), [0, 1])
    unknown.labels["part"][3] = -1
    with pytest.raises(ValueError, match="points without one"):
        module.training_step(unknown, 0)
    wrong = batch((5, 5), [0, 1])
    wrong.labels["part"][0] = 4  # a lamp's
    with pytest.raises(ValueError, match="does not belong to the category"):
        module.eval().validation_step(wrong, 0)
    with pytest.raises(DivergenceError):
        module.trainer = type("Trainer", (), {"global_step": 3, "current_epoch": 1})()
        module._current_lr = lambda: 0.1  # type: ignore[method-assign]
        module.finite(torch.tensor(float("nan")))
