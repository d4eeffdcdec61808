"""`ViewNetwork`: published sizes, pooling over views, its own normalisation,
and image models that do not fit.
"""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn

from pointlift.core.point_batch import PointBatch
from pointlift.models import image_network
from pointlift.models.images.fractal_resnet import fractal_resnet
from pointlift.models.points.simpleview import SimpleView
from pointlift.teachers.image_features import without_classifier
from pointlift.teachers.view_network import SimpleViewBackbone, ViewNetwork
from pointlift.views import simple_view_images


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def net(**changes: object) -> ViewNetwork:
    options = {"num_classes": 5, "image_size": 32, **changes}
    return ViewNetwork(
        fractal_resnet(num_classes=7, generator=torch.Generator().manual_seed(0)), **options
    ).eval()  # type: ignore


@pytest.mark.parametrize("name", ["torchvision:resnet18", "resnet18"])
def test_mvcnn_of_the_paper_has_its_published_size(name: str) -> None:
    """Facts 4.3: ResNet-18 without its classifier, 512 numbers of an object, 40 classes."""
    mvcnn = ViewNetwork(image_network(name), 40, image_size=64)
    assert parameters(mvcnn) == 11_197_032 and mvcnn.embed_dim == 512


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("torchvision:squeezenet1_1", 512),
        ("fractal_resnet", 128),
        ("mobilenetv3_small_050", 1024),
        ("convnext_atto", 320),
    ],
)
def test_image_models_of_every_kind_lose_their_classifier_only(name: str, width: int) -> None:
    """Widths are what the models' own papers name: the channels that the classifier took."""
    image = image_network(name)
    whole = ViewNetwork(image, 5, image_size=64)
    assert whole.embed_dim == width
    last = width * (1000 if name != "fractal_resnet" else 100) + (1000 if name != "fractal_resnet" else 100)
    assert parameters(whole.trunk) == parameters(image) - last


def test_the_embedding_is_the_pooled_input_of_the_image_classifier() -> None:
    image = timm.create_model("resnet10t", num_classes=3).eval()
    views = torch.rand(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    mean, std = (
        torch.tensor([0.485, 0.456, 0.406])[:, None, None],
        torch.tensor([0.229, 0.224, 0.225])[:, None, None],
    )
    with torch.no_grad():
        features = image.forward_head(
            image.forward_features(((views - mean) / std).flatten(0, 1)), pre_logits=True
        ).reshape(2, 3, -1)
        for pooling, expected in (("max", features.max(1).values), ("mean", features.mean(1))):
            whole = ViewNetwork(image, 4, pooling, image_size=32).eval()  # type: ignore[arg-type]
            # kernels for another memory layout
            torch.testing.assert_close(whole.embed(views), expected, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(whole(views), whole.classifier(whole.embed(views)))


def test_views_are_a_set() -> None:
    views = torch.rand(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    for pooling in ("max", "mean"):
        whole = net(pooling=pooling)
        torch.testing.assert_close(whole(views), whole(views[:, [2, 0, 3, 1]]), rtol=1e-4, atol=1e-5)
    repeated = views[:, :1].expand(-1, 4, -1, -1, -1)
    torch.testing.assert_close(net()(repeated), net()(views[:, :1]), rtol=1e-4, atol=1e-5)


def test_a_width_of_the_students() -> None:
    whole = net(width=512)
    views = torch.rand(3, 2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    embedding = whole.embed(views)
    assert embedding.shape == (3, 512) and bool((embedding >= 0).all()) and bool((embedding > 0).any())
    assert parameters(whole) - parameters(net()) == (128 * 512 + 512) + (512 * 5 + 5) - (128 * 5 + 5)
    torch.testing.assert_close(whole.projection[0].weight, net(width=512).projection[0].weight)  # type: ignore[index]
    assert not torch.equal(whole.classifier.weight, net(width=512, seed=1).classifier.weight)


def test_one_channel_and_fixed_weights() -> None:
    simple = ViewNetwork(SimpleViewBackbone(), 40, image_size=32, classifier="none").eval()
    # SimpleView at width 16 has 803,992 parameters; its fusion head, which view pooling replaces, is the rest
    head = 2 * 128 + (768 * 128 + 128) + 2 * 128 + (128 * 40 + 40)
    assert simple.embed_dim == 128 and parameters(simple) == 803_992 - head + (128 * 40 + 40)
    grey = torch.rand(2, 6, 1, 32, 32, generator=torch.Generator().manual_seed(3)).expand(-1, -1, 3, -1, -1)
    torch.testing.assert_close(
        simple.embed(grey), simple.trunk(grey[:, :, 0].flatten(0, 1)[:, None]).reshape(2, 6, -1).amax(1)
    )
    image = fractal_resnet()
    image.conv1.weight.requires_grad_(False)
    assert not next(ViewNetwork(image, 3, image_size=32).trunk.parameters()).requires_grad, (
        "what is fixed stays so"
    )
    image.requires_grad_(False)
    assert all(p.requires_grad for p in ViewNetwork(image, 3, image_size=32).parameters())
    assert not any(p.requires_grad for p in image.parameters()) and isinstance(image.fc, nn.Linear), (
        "the image model is not changed"
    )


def test_fusion_is_simpleviews() -> None:
    """The same 803,992 parameters, and with the same weights the same logits of the same depth pictures."""
    whole = ViewNetwork(SimpleViewBackbone(), 40, "fusion", image_size=32, classifier="none", views=6).eval()
    own = SimpleView(num_classes=40, image_size=32).eval()
    assert parameters(whole) == parameters(own) == 803_992 and whole.embed_dim == 128
    for name in ("stem", "layer1", "layer2", "layer3", "layer4"):
        own.get_submodule(name).load_state_dict(whole.trunk.get_submodule(name).state_dict())
    own.head.load_state_dict(
        {
            **whole.projection.state_dict(),
            **{f"classifier.{k}": v for k, v in whole.classifier.state_dict().items()},
        }
    )
    draw = torch.Generator().manual_seed(5)
    cloud = PointBatch.from_list([torch.rand(200, 3, generator=draw) - 0.5 for _ in range(3)])
    depth = simple_view_images(cloud, 32, 1.4)
    pictures = depth.reshape(3, 6, 1, 32, 32).expand(-1, -1, 3, -1, -1)
    with torch.no_grad():
        torch.testing.assert_close(whole(pictures), own(cloud), rtol=1e-4, atol=1e-5)
        turned = whole(pictures[:, [1, 0, 2, 3, 4, 5]])
        assert not torch.allclose(turned, whole(pictures)), "the order of the views counts"
    assert ViewNetwork(
        SimpleViewBackbone(), 4, "fusion", 512, image_size=32, classifier="none", views=3
    ).embed(torch.rand(2, 3, 3, 32, 32)).shape == (2, 512)
    with pytest.raises(ValueError, match="got 5 views of every object, but its fusion joins 6"):
        whole(torch.rand(2, 5, 3, 32, 32))
    with pytest.raises(ValueError, match="pooling is 'fusion' and views None, expected how many views"):
        ViewNetwork(SimpleViewBackbone(), 4, "fusion", image_size=32, classifier="none")


def test_simpleview_of_colours() -> None:
    colored = ViewNetwork(SimpleViewBackbone(channels=3), 4, image_size=32, classifier="none").eval()
    assert colored.in_channels == 3 and len(colored.arguments["mean"]) == 3
    red, blue = torch.zeros(2, 2, 1, 3, 32, 32).unbind(0)
    red[:, :, 0], blue[:, :, 2] = 1, 1
    assert not torch.allclose(colored.embed(red), colored.embed(blue))
    with pytest.raises(ValueError, match="simpleview: channels is 4, expected 1"):
        SimpleViewBackbone(channels=4)  # type: ignore[arg-type]


def test_batch_norm_does_not_move_while_it_is_made() -> None:
    image = fractal_resnet()
    made = ViewNetwork(image, 3, image_size=32)
    assert made.trunk.training and int(made.trunk.bn1.num_batches_tracked) == 0  # type: ignore


class Chatty(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.conv(x), x


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (
            lambda: image_network("torchvision:squeezenet1_1"),
            {"image_size": 8},
            "cannot take pictures of 8 x 8 pixels .*views.size",
        ),
        (
            lambda: image_network("vit_tiny_patch16_224"),
            {"image_size": 64},
            "cannot take pictures of 64 x 64 pixels",
        ),
        (
            lambda: image_network("resnet10t", options={"global_pool": ""}),
            {"image_size": 64},
            "it has no pooling; add one",
        ),
        (
            lambda: nn.Conv2d(5, 4, 3),
            {"classifier": "none"},
            "takes pictures of 5 channels, expected 3, or 1",
        ),
        (Chatty, {"classifier": "none"}, "gives tuple, expected a tensor"),
        (
            lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()),
            {},
            "does not end in a linear layer or a 1x1 convolution",
        ),
        (lambda: nn.Linear(3, 4), {}, "a single linear layer"),
        (fractal_resnet, {"classifier": "head"}, "the network has no module 'head'"),
        (fractal_resnet, {"pooling": "median"}, "pooling must be one of max, mean, fusion, got 'median'"),
        (fractal_resnet, {"width": 0}, "width must be an integer of at least 1, got 0"),
        (fractal_resnet, {"std": [0.0]}, "std is .* above 0"),
        (fractal_resnet, {"mean": [0.1, 0.2]}, "expected 3 numbers each"),
    ],
)
def test_what_does_not_fit_is_one_sentence(image: object, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        ViewNetwork(image(), 3, **{"image_size": 32, **options})  # type: ignore
    assert "\n" not in str(caught.value)


def test_pictures_of_another_shape() -> None:
    with pytest.raises(
        ValueError, match=r"must have shape \(B, V, 3, H, W\) with at least one view, got \(2, 3, 32, 32\)"
    ):
        net()(torch.rand(2, 3, 32, 32))
    with pytest.raises(ValueError, match="at least one view"):
        net().embed(torch.rand(2, 0, 3, 32, 32))
    assert without_classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)))(
        torch.rand(1, 3, 2, 2)
    ).shape == (1, 12)
