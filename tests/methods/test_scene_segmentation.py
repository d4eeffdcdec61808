"""Scene segmentation as a method: its loss, its metrics over scenes, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pointlift.data.dataset import collate
from pointlift.data.sample import Sample
from pointlift.methods.segmentation.scenes import SceneLabelling, class_weights
from tiny_scenes import LABELS, build, scene


def batch(*seeds: int, part: bool = True) -> object:
    samples = [scene(seed, 120 + 4 * seed) for seed in seeds]
    if not part:
        samples = [Sample(s.xyz, features=s.features) for s in samples]
    joined = [
        Sample(s.xyz, features=np.concatenate([s.xyz[:, 2:], s.features], 1), part=s.part) for s in samples
    ]
    return collate(joined)


def module(**settings: object) -> SceneLabelling:
    found = SceneLabelling(build(), LABELS, **settings)  # type: ignore[arg-type]
    found.net.voxel_size = 0.2
    found.log = lambda *a, **k: None  # type: ignore[method-assign]  # there is no trainer
    return found


def test_the_loss_is_the_mean_over_points_that_have_a_class() -> None:
    labelling, cloud = module(), batch(1, 2)
    loss = labelling.training_step(cloud, 0)
    log_p = labelling.net(cloud).log_softmax(1)
    part = cloud.labels["part"]
    known = [i for i in range(len(part)) if part[i] >= 0]
    assert len(known) == len(part) - 10
    assert torch.allclose(loss, -sum(log_p[i, int(part[i])] for i in known) / len(known), atol=1e-5)


def test_weights_of_classes_are_of_the_loss_alone() -> None:
    weights = class_weights(torch.tensor([90, 10, 0]), "inverse")
    assert weights is not None and weights.mean() == pytest.approx(1.0)
    assert float(weights[1] / weights[0]) == pytest.approx(9.0) and weights[2] == weights[1]
    root = class_weights(torch.tensor([90, 10, 0]), "sqrt")
    assert root is not None and float(root[1] / root[0]) == pytest.approx(3.0)
    assert class_weights(torch.tensor([1, 2]), "none") is None
    cloud = batch(1)
    plain, weighted = module(), module(weights=weights)
    assert not torch.allclose(plain.losses(cloud)["loss"], weighted.losses(cloud)["loss"])
    for labelling in (plain.eval(), weighted.eval()):
        labelling.begin_evaluation()
        labelling.evaluate(cloud)
    assert torch.allclose(plain.val_loss.compute(), weighted.val_loss.compute())


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
@torch.no_grad()
def test_scenes_add_up_to_one_confusion() -> None:
    labelling = module().eval()
    labelling.begin_evaluation()
    clouds = [batch(seed) for seed in (1, 2, 3)]
    for cloud in clouds:
        labelling.evaluate(cloud)
    truth = np.concatenate([c.labels["part"].numpy() for c in clouds])
    predicted = np.concatenate([labelling(c).argmax(1).numpy() for c in clouds])
    keep = truth >= 0
    ious = []
    for c in range(3):
        union = ((truth == c) | (predicted == c)) & keep
        if union.any():
            ious.append(((truth == c) & (predicted == c) & keep).sum() / union.sum())
    measures = labelling.measures()
    assert float(measures["miou"]) == pytest.approx(float(np.mean(ious)))
    assert float(measures["accuracy"]) == pytest.approx(float((truth == predicted)[keep].mean()))


def test_a_crop_without_a_class_teaches_nothing_and_one_without_labels_is_refused() -> None:
    labelling, cloud = module(), batch(1)
    cloud.labels["part"][:] = -1
    loss = labelling.losses(cloud)["loss"]
    loss.backward()
    assert float(loss.detach()) == 0 and all(
        p.grad is None or not bool(p.grad.abs().any()) for p in labelling.net.parameters()
    )
    with pytest.raises(ValueError, match="have no labels"):
        labelling.losses(batch(1, part=False))
