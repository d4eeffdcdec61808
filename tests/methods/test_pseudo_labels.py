"""Pseudo-labels: an image network's classes at the points' pixels, against the upsampled map; learned."""

from __future__ import annotations

import math

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional

from pointlift import create_model
from pointlift.core.point_batch import PointBatch
from pointlift.methods.optim import OptimConfig
from pointlift.methods.pseudo_labels.module import PixelLabelling, PseudoLabelConfig
from pointlift.teachers.dense_classes import DenseClasses

HEIGHT, WIDTH = 12, 16


class Redness(nn.Module):
    """Three classes by the colour of a quarter of the pixels: a segmentation network without weights."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"out": 4 * functional.avg_pool2d(x, 2)}


def teacher_of() -> DenseClasses:
    return DenseClasses(Redness(), [0.5] * 3, [0.25] * 3, (HEIGHT, WIDTH))


def batch_of(points: int = 80) -> PointBatch:
    """Two frames; what the 3D network sees of a point is its pixel's colour."""
    g = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 255, (2, 3, HEIGHT, WIDTH), generator=g, dtype=torch.uint8)
    pictures = functional.interpolate(pictures[:, :, ::4, ::4].float(), (HEIGHT, WIDTH)).to(torch.uint8)
    places = torch.rand(2 * points, 2, generator=g) * torch.tensor([WIDTH - 1.0, HEIGHT - 1.0])
    pixel = torch.floor(places + 0.5).long()
    colors = [
        pictures[b, :, pixel[b * points : (b + 1) * points, 1], pixel[b * points : (b + 1) * points, 0]].t()
        / 255
        for b in range(2)
    ]
    places[5] = float("nan")
    clouds = [torch.rand(points, 3, generator=g) * 3 for _ in range(2)]
    return PointBatch.from_list(clouds, colors, extras={"pictures": pictures, "places": places})


def module_of(**transfer: object) -> PixelLabelling:
    torch.manual_seed(0)
    net = create_model("res16unet14a", in_channels=3, num_classes=4, planes=[8] * 8)
    net.voxel_size = 0.05
    config = PseudoLabelConfig(**transfer)  # type: ignore[arg-type]
    return PixelLabelling(net, teacher_of(), config, optim=OptimConfig(lr=0.05), total_steps=9)


def literal_labels(batch: PointBatch) -> dict[int, tuple[int, float]]:
    """Class and confidence of every point that a pixel shows, from the upsampled logits."""
    x = (batch.extras["pictures"].float() / 255 - 0.5) / 0.25
    large = functional.interpolate(4 * functional.avg_pool2d(x, 2), (HEIGHT, WIDTH), mode="bilinear")
    found = {}
    for n, (u, v) in enumerate(batch.extras["places"].tolist()):
        if not math.isnan(u):
            shares = torch.softmax(large[int(batch.batch[n]), :, int(v + 0.5), int(u + 0.5)], 0)
            found[n] = (int(shares.argmax()), float(shares.max()))
    return found


def test_labels_are_the_classes_of_the_pixels() -> None:
    batch = batch_of()
    module = module_of(points=1000).eval()
    logits, label, labelled = module.answered(batch)
    expected = literal_labels(batch)
    assert labelled == 1 and len(label) == len(logits) <= len(expected) == 159
    counts = torch.bincount(label, minlength=3)
    classes = torch.tensor([c for c, _ in expected.values()])
    # clouds this thin have hardly two points in a voxel: nearly all points are drawn
    assert len(label) > 150 and bool(((torch.bincount(classes, minlength=3) - counts) <= 9).all())


def test_unsure_pixels_are_left_out_and_counted() -> None:
    batch = batch_of()
    sure = [c for _, c in literal_labels(batch).values()]
    module = module_of(points=1000, confidence=0.9).eval()
    labelled = module.answered(batch)[2]
    assert labelled == pytest.approx(sum(s >= 0.9 for s in sure) / len(sure), abs=0.05) and 0 < labelled < 1
    none = module_of(confidence=0.99999999)
    terms = none.losses(batch)
    assert float(terms["loss"].detach()) == 0 and float(terms["labelled"]) == 0
    terms["loss"].backward()


def test_loss_is_the_cross_entropy_and_is_learned() -> None:
    module, batch = module_of(points=100), batch_of()
    torch.manual_seed(4)
    logits, label, _ = module.eval().answered(batch)
    expected = -sum(
        float(logits[i, label[i]]) - math.log(sum(math.exp(float(x)) for x in logits[i]))
        for i in range(len(label))
    ) / len(label)
    torch.manual_seed(4)
    assert float(module.losses(batch)["loss"].detach()) == pytest.approx(expected, rel=1e-4)
    module.train()
    optimizer = torch.optim.Adam(module.trained_parameters(), 0.02)
    for _ in range(15):
        optimizer.zero_grad()
        module.losses(batch)["loss"].backward()
        optimizer.step()
    module.eval().begin_evaluation()
    with torch.no_grad():
        module.evaluate(batch)
    found = {k: float(v) for k, v in module.measures().items()}
    assert found["agreement"] > found["commonest"] and found["labelled"] == 1


def test_a_classifiers_head_at_every_place() -> None:
    torch.manual_seed(0)
    net = timm.create_model("resnet18", num_classes=7).eval()
    teacher = DenseClasses(net, [0.5] * 3, [0.5] * 3, (64, 96), "every-place")
    pictures = torch.rand(2, 3, 64, 96)
    found = teacher(pictures)
    assert found.shape == (2, 7, 2, 3) and teacher.classes == 7 and teacher.stride == (32, 32)
    maps = net.forward_features((pictures - 0.5) / 0.5)
    expected = torch.einsum("kc,bchw->bkhw", net.fc.weight, maps) + net.fc.bias[:, None, None]
    assert torch.allclose(found, expected, atol=1e-5)
    # the logits of the whole picture are the mean over the places: the head is linear
    assert torch.allclose(found.mean((2, 3)), net((pictures - 0.5) / 0.5), atol=1e-5)


def test_teachers_that_name_no_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="a map of class logits"):
        DenseClasses(timm.create_model("resnet18"), [0.5] * 3, [0.5] * 3, (64, 64))
    with pytest.raises(ValueError, match="no head that could be applied"):
        DenseClasses(Redness(), [0.5] * 3, [0.5] * 3, (8, 8), "every-place")
    with pytest.raises(ValueError, match="gives 1 class"):
        DenseClasses(nn.Conv2d(3, 1, 1), [0.5] * 3, [0.5] * 3, (8, 8))
    with pytest.raises(ValueError, match="reading is 'cam'"):
        DenseClasses(Redness(), [0.5] * 3, [0.5] * 3, (8, 8), "cam")  # type: ignore[arg-type]
    for wrong in ({"confidence": 1.0}, {"points": 0}, {"drop_path": -0.1}):
        with pytest.raises(ValueError, match="transfer: got"):
            PseudoLabelConfig(**wrong)  # type: ignore[arg-type]
