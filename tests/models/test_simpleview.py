"""SimpleView: its published size, what it sees, and what becomes of an image ResNet's tensors in it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

from pointlift.core.sparse_tensor import PointBatch
from pointlift.data.dataset import collate
from pointlift.data.procedural.shapes import make_shapes
from pointlift.inflation import InflationError, set_finetune
from pointlift.models.points.simpleview import STAGES, SimpleView
from pointlift.views import simple_view_images

TINY = {"layers": [1, 1, 1, 1], "channels": [8, 16, 32, 64]}


def image(name: str = "resnet18", **options: Any) -> nn.Module:
    torch.manual_seed(0)
    net = timm.create_model(name, **{**TINY, **options})
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return net.eval()


def clouds(*sizes: int, seed: int = 0) -> PointBatch:
    generator = torch.Generator().manual_seed(seed)
    return PointBatch.from_list([torch.rand(n, 3, generator=generator) - 0.5 for n in sizes])


@pytest.mark.parametrize(("width", "parameters"), [(16, 803_992), (32, 3_199_240), (64, 12_763_624)])
def test_parameters(width: int, parameters: int) -> None:
    """Facts 5.6, at 40 classes; an image ResNet-18 has width 64 and gives the same network,
    whoever made it.
    """
    assert sum(p.numel() for p in SimpleView(width=width).parameters()) == parameters
    if width == 64:
        with torch.device("meta"):
            images = [timm.create_model("resnet18"), torchvision.models.resnet18()]
        for net in images:
            assert sum(p.numel() for p in SimpleView(net.to_empty(device="cpu")).parameters()) == parameters


def test_the_network_is_the_images_through_a_resnet_and_a_fusion() -> None:
    """The forward pass again, from torch's functions and the module's weights alone."""
    torch.manual_seed(0)
    net, cloud = SimpleView(width=4, num_classes=5, image_size=24).eval(), clouds(60, 40)
    f = nn.functional

    def norm(x: torch.Tensor, n: Any) -> torch.Tensor:
        return f.batch_norm(x, n.running_mean, n.running_var, n.weight, n.bias)

    with torch.no_grad():
        for m in net.modules():
            if isinstance(m, nn.modules.batchnorm._BatchNorm):
                for t in (m.weight, m.bias, m.running_mean):
                    t.add_(0.3 * torch.randn_like(t))
        x = simple_view_images(cloud, 24).reshape(12, 1, 24, 24)
        stem: Any = net.stem
        x = norm(f.conv2d(x, stem[0].weight, padding=1), stem[1]).relu()  # stride 1, and no pooling behind it
        assert x.shape[-1] == 24
        for level, name in enumerate(STAGES):
            for depth, block in enumerate(getattr(net, name)):
                stride = 2 if level and not depth else 1
                y = norm(f.conv2d(x, block.conv1.weight, stride=stride, padding=1), block.bn1).relu()
                y = norm(f.conv2d(y, block.conv2.weight, padding=1), block.bn2)
                short = (
                    x
                    if block.downsample is None
                    else norm(f.conv2d(x, block.downsample[0].weight, stride=2), block.downsample[1])
                )
                x = (y + short).relu()
        views = x.mean((2, 3)).reshape(2, 6, 32)
        assert torch.allclose(net.forward_features(cloud), views.reshape(2, -1), atol=1e-5)
        head: Any = net.head
        joined = torch.cat([norm(views[:, v], head.view_norm) for v in range(6)], 1)
        joined = norm(head.join(joined), head.norm).relu()
        assert torch.allclose(net(cloud), head.classifier(joined), atol=1e-5)


def test_blocks_begin_as_identities() -> None:
    """zero_init_residual: the last normalisation of each block is zero, in new networks and after scratch."""
    for net in (SimpleView(width=4), SimpleView(image())):
        set_finetune(net, "scratch", seed=1)
        for name in STAGES:
            assert all(
                not bool(block.bn2.weight.any()) and bool((block.bn1.weight == 1).all())
                for block in getattr(net, name)
            )


@pytest.mark.parametrize(
    "make", [image, lambda: image("resnet50"), lambda: torchvision.models.resnet18().eval()]
)
@pytest.mark.parametrize("stem", ["new", "crop"])
def test_the_report_tells_of_every_tensor(make: Any, stem: Any) -> None:
    original = make()
    before = copy.deepcopy(original.state_dict())
    net = SimpleView(original, num_classes=4, stem=stem, image_size=16)
    state = net.state_dict()
    assert [r.name for r in net.report.rows if r.shape_2d is not None] == list(before)
    assert sorted(r.target for r in net.report.rows if r.target) == sorted(state)
    for row in net.report.rows:
        part = row.name.split(".")[0]
        if row.fate == "copied":
            assert part in (*STAGES, *(("conv1", "bn1") if stem == "crop" else ()))
            assert row.note or torch.equal(state[row.target], before[row.name])
        elif row.fate == "dropped":
            assert part in ("fc", *(() if stem == "crop" else ("conv1", "bn1")))
        else:
            assert row.fate == "re-initialised" and row.target.split(".")[0] in ("stem", "head")
    net(clouds(30, 30)).sum().backward()
    assert all(torch.equal(v, before[k]) for k, v in original.state_dict().items())
    assert all(p.grad is None for p in original.parameters())


def test_a_cropped_stem_sees_the_middle_of_a_grey_picture() -> None:
    original = image()
    stem: Any = SimpleView(original, stem="crop").stem.eval()
    grey = torch.randn(1, 1, 9, 9)
    with torch.no_grad():
        centre = torch.zeros_like(original.conv1.weight)
        centre[:, :, 2:5, 2:5] = original.conv1.weight[:, :, 2:5, 2:5]
        expected = original.bn1(nn.functional.conv2d(grey.expand(-1, 3, -1, -1), centre, padding=3)).relu()
        assert torch.allclose(stem(grey), expected, atol=1e-5)


def test_regimes() -> None:
    net = SimpleView(image(), num_classes=3, image_size=16)
    set_finetune(net, "io")
    assert {n.split(".")[0] for n, p in net.named_parameters() if p.requires_grad} == {"stem", "head"}
    before = {n: b.clone() for n, b in net.named_buffers()}
    net.train()(clouds(20, 30))
    moved = {n.split(".")[0] for n, b in net.named_buffers() if not torch.equal(b, before[n])}
    assert moved == {"stem", "head"}  # the backbone keeps its image statistics
    set_finetune(net, "all")
    net.train()(clouds(20, 30)).square().sum().backward()
    assert all(
        p.grad is not None and bool(p.grad.abs().sum())
        for n, p in net.named_parameters()
        if n.startswith(("layer", "stem"))
    )


def test_scratch_keeps_nothing_of_the_image_weights() -> None:
    nets = [SimpleView(image(), num_classes=3, stem="crop") for _ in range(2)]
    with torch.no_grad():
        for p in [*nets[1].parameters(), *nets[1].buffers()]:
            p.add_(1)
    for net in nets:
        set_finetune(net, "scratch", seed=5)
    for (key, a), b in zip(nets[0].state_dict().items(), nets[1].state_dict().values()):
        assert torch.equal(a, b), key


def test_ragged_and_reordered_clouds() -> None:
    """A cloud's logits depend neither on what is beside it nor on the order of its points."""
    torch.manual_seed(0)
    net, cloud = SimpleView(width=4, num_classes=3, image_size=16).eval(), clouds(50, 1, 20)
    with torch.no_grad():
        together = net(cloud)
        for b in range(3):
            assert torch.allclose(together[b], net(cloud[b])[0], atol=1e-5)
        assert torch.equal(net(cloud[0]), net(PointBatch.from_list([cloud[0].xyz.flip(0)])))
    assert bool(torch.isfinite(together).all())


def test_bad_clouds() -> None:
    """No class is made up for a cloud without points, and training on a single cloud is refused in one
    sentence.
    """
    net = SimpleView(width=4, num_classes=3, image_size=16)
    with pytest.raises(ValueError, match="cloud 1 of 2 has no points"):
        net.eval()(clouds(50, 0))
    with pytest.raises(ValueError, match="got a batch of 0 clouds"):
        net(PointBatch.from_list([]))
    with pytest.raises(ValueError, match="1 cloud in training mode"):
        net.train()(clouds(50))


def test_arguments_build_it_again() -> None:
    net = SimpleView(width=8, num_classes=3, depths=(1, 2, 1, 1), image_size=16).eval()
    again = SimpleView(**json.loads(json.dumps(net.arguments))).eval()
    again.load_state_dict(net.state_dict())
    assert torch.equal(net(clouds(30)), again(clouds(30)))
    # the stage of a shrunken network takes the stem's 64 channels, whatever comes later
    module = image(channels=[64, 16, 16, 24])
    of_module = SimpleView(module, num_classes=3, stem="crop", image_size=16)
    rebuilt = SimpleView(module, **json.loads(json.dumps(of_module.arguments)))
    assert {k: v.shape for k, v in rebuilt.state_dict().items()} == {
        k: v.shape for k, v in of_module.state_dict().items()
    }


def test_a_frozen_image_model_learns_and_a_frozen_part_of_it_does_not() -> None:
    assert all(p.requires_grad for p in SimpleView(image().requires_grad_(False)).parameters())
    partly = image()
    partly.layer2.requires_grad_(False)
    net = SimpleView(partly)
    set_finetune(net, "all")
    assert {n.split(".")[0] for n, p in net.named_parameters() if not p.requires_grad} == {"layer2"}


def test_image_models_that_are_no_resnets() -> None:
    with pytest.raises(
        InflationError, match="VGG has no layer1: SimpleView takes the four stages of a ResNet"
    ):
        SimpleView(timm.create_model("vgg11", device="meta"))
    odd = image()
    odd.extra = nn.Linear(2, 2)
    with pytest.raises(InflationError, match="ResNet has extra beside its stages"):
        SimpleView(odd)
    with pytest.raises(InflationError, match="stem='crop' needs an image model that begins with conv1"):
        SimpleView(image("resnet18d"), stem="crop")
    assert SimpleView(image("resnet18d")).report.counts()["dropped"] > 2  # its deep stem


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_model": image(), "width": 16}, "width is 16, but the image model's stages take 64 channels"),
        ({"stem": "crop"}, "stem='crop' needs an image model"),
        ({"stem": "sum"}, "stem must be one of new, crop, got 'sum'"),
        ({"in_channels": 6}, "in_channels is 6, but its depth images show xyz and nothing else"),
        ({"width": 0}, "width must be an integer of at least 1, got 0"),
        ({"image_size": 12.5}, "image_size must be an integer of at least 1, got 12.5"),
        ({"depths": (2, 2, 2)}, r"depths must be four positive numbers of blocks, got \[2, 2, 2\]"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_options_outside_their_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SimpleView(**options)


def test_it_learns_to_tell_shapes_apart() -> None:
    classes = ("aeroplane", "guitar", "sofa")
    train, test = (
        [dataset[i] for i in range(len(dataset))]
        for dataset in (
            make_shapes(24, 256, 0, "train", classes=classes),
            make_shapes(16, 256, 0, "test", classes=classes),
        )
    )
    torch.manual_seed(0)
    net = SimpleView(width=4, num_classes=3, image_size=16, depths=(1, 1, 1, 1))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(50):
        batch = collate([train[i] for i in torch.randperm(len(train))[:16].tolist()])
        loss = nn.functional.cross_entropy(net.train()(batch), batch.labels["class"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    unseen = collate(test)
    with torch.no_grad():
        accuracy = (net.eval()(unseen).argmax(1) == unseen.labels["class"]).float().mean()
    assert float(accuracy) > 0.6  # chance is a third; four standard deviations of 48 guesses above it
