"""PPKT's global baselines: each loss against sums written out here, CRD against a literal loop, and
what of the network learns.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from pointlift import create_model
from pointlift.core.point_batch import PointBatch
from pointlift.methods.global_transfer.contrast import RepresentationContrast, contrast_terms, other_frames
from pointlift.methods.global_transfer.encoder import Encoder, deepest_map
from pointlift.methods.global_transfer.module import PictureToCloud
from pointlift.methods.global_transfer.settings import GlobalTransferConfig
from pointlift.methods.optim import OptimConfig
from pointlift.teachers.global_features import GlobalFeatures


class Classifies(nn.Module):
    """Two channels of pooled features, three classes."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)
        self.fc = nn.Linear(5, classes) if classes else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fc(self.norm(self.conv(x)).mean((2, 3)))
        return out


def teacher_of(classes: int = 3) -> GlobalFeatures:
    torch.manual_seed(1)
    return GlobalFeatures(Classifies(classes), [0.4, 0.5, 0.6], [0.2, 0.3, 0.4], (8, 9))


def net_of() -> Any:
    torch.manual_seed(0)
    net = create_model("res16unet14a", in_channels=3, num_classes=4, planes=[8] * 8)
    net.voxel_size = 0.05
    return net


def batch_of(clouds: int = 3, first: int = 0) -> PointBatch:
    g = torch.Generator().manual_seed(7)
    xyz = [torch.rand(60 + 5 * i, 3, generator=g) for i in range(clouds)]
    extras = {
        "pictures": torch.randint(0, 255, (clouds, 3, 8, 9), generator=g, dtype=torch.uint8),
        "frames": torch.arange(first, first + clouds),
    }
    return PointBatch.from_list(xyz, [torch.rand(len(x), 3, generator=g) for x in xyz], extras=extras)


def module_of(loss: str, **more: Any) -> PictureToCloud:
    transfer = GlobalTransferConfig(loss=loss, dim=6, negatives=5, **more)  # type: ignore[arg-type]
    return PictureToCloud(net_of(), teacher_of(), transfer, 7, optim=OptimConfig(lr=0.05), total_steps=9)


# ------------------------------------------------------------------------------------------ the teacher


def test_teacher_gives_what_its_classifier_sees_and_says() -> None:
    teacher, pictures = teacher_of(), batch_of().extras["pictures"]
    features, logits = teacher(pictures)
    network: Any = teacher.network
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.4])
    x = (pictures.permute(0, 2, 3, 1) / 255 - mean) / std
    expected = network.norm(network.conv(x.permute(0, 3, 1, 2))).mean((2, 3))
    assert torch.allclose(features, expected, atol=1e-6) and torch.allclose(logits, network.fc(expected))
    assert (teacher.width, teacher.classes) == (5, 3) and not features.requires_grad
    before = network.norm.running_mean.clone()
    teacher.train()(pictures)
    assert torch.equal(before, network.norm.running_mean)


def test_teacher_without_a_classifier() -> None:
    teacher = teacher_of(0)
    features, logits = teacher(batch_of().extras["pictures"])
    assert logits is None and features.shape == (3, 5) and teacher.classes == 0
    with pytest.raises(ValueError, match="it has no classifier"):
        PictureToCloud(net_of(), teacher, GlobalTransferConfig(loss="kd"))
    with pytest.raises(ValueError, match="a vector each is expected"):
        GlobalFeatures(nn.Flatten(0), [0.5] * 3, [0.5] * 3, (8, 8))


# ------------------------------------------------------------------------------------------ the encoder


def test_encoder_is_the_pooled_deepest_map() -> None:
    net, batch = net_of().eval(), batch_of()
    assert deepest_map(net)["module"] == "block4" and deepest_map(net)["reduction"] == 16
    found = Encoder(net)(batch)
    deep = net.forward_intermediates(batch, [3], intermediates_only=True)[0]
    for cloud in range(3):
        own = deep.features[deep.batch == cloud]
        assert torch.allclose(found[cloud], own.mean(0), atol=1e-6)
    assert torch.allclose(Encoder(net, "max")(batch)[1], deep.features[deep.batch == 1].amax(0))


def test_the_decoder_learns_nothing_and_never_runs() -> None:
    module, batch = module_of("gupta").train(), batch_of()
    decoder = ["convtr", "bntr", "block5", "block6", "block7", "block8"]
    before = {n: b.clone() for n, b in module.net.named_buffers()}
    module.losses(batch)["loss"].backward()
    for name, parameter in module.net.named_parameters():
        inside = name.startswith(tuple(decoder))
        assert parameter.requires_grad is not inside and (parameter.grad is None) is inside, name
    for name, buffer in module.net.named_buffers():
        if name.startswith(tuple(decoder)):
            assert torch.equal(buffer, before[name]), name
    assert set(module.encoder.untrained_modules) == {
        *(f"block{i}" for i in (5, 6, 7, 8)),
        *("convtr4p16s2", "convtr5p8s2", "convtr6p4s2", "convtr7p2s2"),
        *(f"bntr{i}" for i in (4, 5, 6, 7)),
    }


def test_networks_without_an_encoder_are_refused() -> None:
    net = create_model("linear-network-points", in_channels=3, num_classes=4)
    with pytest.raises(ValueError, match="no map that is coarser than its input"):
        deepest_map(net)


@pytest.mark.slow
def test_encoders_of_pointnet2_and_inflated_unets() -> None:
    net = create_model("pointnet2-ssg-scenes", in_channels=6, npoint=[16, 8, 4, 2], nsample=[4] * 4)
    encoder = Encoder(net)
    assert encoder.module == "levels.3" and encoder.untrained_modules == ["propagation", "head"]
    g = torch.Generator().manual_seed(0)
    clouds = [torch.rand(40, 3, generator=g) for _ in range(2)]
    batch = PointBatch.from_list(clouds, [torch.cat([c, c], 1) for c in clouds])
    assert encoder(batch).shape == (2, 512)
    unet = create_model("resnet18", network="unet", in_channels=3, num_classes=4)
    encoder = Encoder(unet)
    assert "decoder" in encoder.untrained_modules and encoder.width == 512
    assert encoder(PointBatch.from_list(clouds, clouds)).shape == (2, 512)


# ------------------------------------------------------------------------------------------ the losses


def test_global_kd_is_hintons() -> None:
    module, batch = module_of("kd", temperature=3.0).eval(), batch_of()
    _, target = module.teacher(batch.extras["pictures"])
    own = module.learned(module.encoder(batch))
    total = 0.0
    for b in range(3):
        p, q = torch.softmax(target[b] / 3, 0), torch.softmax(own[b] / 3, 0)
        total += 9 * sum(float(p[k]) * math.log(float(p[k]) / float(q[k])) for k in range(3))
    assert float(module.losses(batch)["loss"].detach()) == pytest.approx(total / 3, rel=1e-4)


def test_gupta_is_the_squared_distance_of_features() -> None:
    module, batch = module_of("gupta").eval(), batch_of()
    target, _ = module.teacher(batch.extras["pictures"])
    own = module.learned(module.encoder(batch))
    total = sum(float((own[b, d] - target[b, d]).detach()) ** 2 for b in range(3) for d in range(5))
    assert float(module.losses(batch)["loss"].detach()) == pytest.approx(total / 15, rel=1e-4)


def test_crd_is_the_literal_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    crd = RepresentationContrast(4, 5, frames=9, dim=3, negatives=6, temperature=0.5)
    points, pixels = torch.randn(2, 4), torch.randn(2, 5)
    frames = torch.tensor([7, 2])
    memories = [crd.pixels_memory.clone(), crd.points_memory.clone()]
    drawn = other_frames(frames, 6, 9, torch.Generator().manual_seed(5))
    monkeypatch.setattr("pointlift.methods.global_transfer.contrast.other_frames", lambda *a, **k: drawn)
    sides = []
    for layer, given in ((crd.embed_points, points), (crd.embed_pixels, pixels)):
        z = given @ layer.weight.t() + layer.bias
        sides.append(z / z.norm(dim=1, keepdim=True))
    expected = 0.0
    for anchor, memory in zip(sides, memories):
        score = [
            [math.exp(float(anchor[b] @ memory[i]) / 0.5) for i in [int(frames[b]), *drawn[b].tolist()]]
            for b in range(2)
        ]
        z = sum(map(sum, score)) / 14 * 9  # the mean of the first step, times M
        for row in score:
            h = [s / z for s in row]
            expected -= math.log(h[0] / (h[0] + 6 / 9)) / 2
            expected -= sum(math.log((6 / 9) / (value + 6 / 9)) for value in h[1:]) / 2
    loss = crd(points, pixels, frames)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-4)
    for memory, old, new in zip((crd.points_memory, crd.pixels_memory), reversed(memories), sides):
        for b, row in enumerate(frames.tolist()):
            mixed = 0.5 * old[row] + 0.5 * new[b]
            assert torch.allclose(memory[row], mixed / mixed.norm(), atol=1e-6)
        rest = [i for i in range(9) if i not in (7, 2)]
        assert torch.equal(memory[rest], old[rest])
    constants = crd.constants.clone()
    crd(points, pixels, frames)
    assert torch.equal(crd.constants, constants)  # set once


def test_crd_negatives_are_uniform_over_the_others() -> None:
    drawn = other_frames(torch.tensor([0, 3, 4]), 6000, 5, torch.Generator().manual_seed(0))
    for row, own in zip(drawn, (0, 3, 4)):
        counts = torch.bincount(row, minlength=5)
        assert counts[own] == 0
        rest = torch.cat([counts[:own], counts[own + 1 :]]).float()
        assert bool(((rest - 1500).abs() < 160).all())  # five deviations of sqrt(6000 * 3 / 16)
    assert set(other_frames(torch.tensor([-1]), 200, 3).flatten().tolist()) == {0, 1, 2}


def test_crd_terms_fall_with_better_scores() -> None:
    good = contrast_terms(torch.tensor([50.0]), torch.full((1, 4), 0.01), 10)
    bad = contrast_terms(torch.tensor([0.5]), torch.full((1, 4), 5.0), 10)
    assert float(good) < float(bad)
    with pytest.raises(ValueError, match="take 2 or more"):
        RepresentationContrast(3, 3, frames=1)


@pytest.mark.parametrize("loss", ["kd", "gupta", "crd"])
def test_every_loss_is_learned_and_judged(loss: str) -> None:
    module, batch = module_of(loss).train(), batch_of()
    optimizer = torch.optim.Adam(module.trained_parameters(), 0.02)
    found = []
    for _ in range(12):
        optimizer.zero_grad()
        value = module.losses(batch)["loss"]
        value.backward()
        optimizer.step()
        found.append(float(value.detach()))
    assert found[-1] < 0.8 * found[0] if loss != "crd" else found[-1] < found[0]
    judged = []
    for _ in range(2):
        module.eval().begin_evaluation()
        with torch.no_grad():
            module.evaluate(batch)
        judged.append({k: float(v) for k, v in module.measures().items()})
    assert judged[0] == judged[1] and judged[0]["chance"] == pytest.approx(1 / 3)
    assert all(math.isfinite(v) for v in judged[0].values())


def test_memories_are_part_of_the_state() -> None:
    state = module_of("crd").state_dict()
    assert {"learned.points_memory", "learned.pixels_memory", "learned.constants"} <= state.keys()
    assert state["learned.points_memory"].shape == (7, 6)


def test_defaults_and_refusals() -> None:
    assert GlobalTransferConfig().tau == 4 and GlobalTransferConfig(loss="crd").tau == 0.07
    crd = GlobalTransferConfig(loss="crd")
    assert (crd.dim, crd.negatives, crd.momentum) == (128, 16384, 0.5)
    for wrong in ({"loss": "mse"}, {"temperature": 0.0}, {"dim": 0}, {"negatives": 0}, {"momentum": 1.0}):
        with pytest.raises(ValueError, match=r"transfer: (loss is|got temperature)"):
            GlobalTransferConfig(**wrong)  # type: ignore[arg-type]
