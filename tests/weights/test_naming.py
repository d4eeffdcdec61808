"""Naming schemes of other people's image weights: files made in each layout, what is recognised, dropped,
and loaded where.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from pointlift.models.images.bagnet import bagnet9, bagnet17, bagnet33
from pointlift.weights.image_weights import WeightsError, load_image_weights
from pointlift.weights.naming import SCHEMES, WeightFile, recognise

State = dict[str, Tensor]
SMALL = {"layers": [1, 2, 1, 1], "channels": [4, 6, 8, 8]}


def resnet(classes: int = 5, **options: Any) -> nn.Module:
    """timm's resnet50 with few channels; its names are torchvision's."""
    return timm.create_model("resnet50", num_classes=classes, **{**SMALL, **options})


def values(net: nn.Module, seed: int = 1) -> State:
    """Random tensors under the names of `net`."""
    generator = torch.Generator().manual_seed(seed)
    return {
        k: torch.randn(v.shape, generator=generator) if v.is_floating_point() else v
        for k, v in net.state_dict().items()
    }


def under(prefix: str, tensors: State) -> State:
    return {prefix + k: v for k, v in tensors.items()}


def trunk(tensors: State) -> State:
    return {k: v for k, v in tensors.items() if not k.startswith("fc.")}


def projection(prefix: str, layers: tuple[int, ...]) -> State:
    return {f"{prefix}{i}.{what}": torch.zeros(3, 3) for i in layers for what in ("weight", "bias")}


def conv_bn(prefix: str) -> State:
    norm = {f"{prefix}.1.{n}": torch.zeros(3) for n in ("weight", "bias", "running_mean", "running_var")}
    return {f"{prefix}.0.weight": torch.zeros(3, 3, 1, 1), **norm}


DEEP = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"))
TIMM_DEEP = (("conv1.0", "conv1.1"), ("conv1.3", "conv1.4"), ("conv1.6", "bn1"))


def deep_stem(tensors: State, theirs: tuple[tuple[str, str], ...]) -> State:
    """`tensors` of timm's deep stem under other names."""
    pairs = {ours: their for our, their_ in zip(TIMM_DEEP, theirs) for ours, their in zip(our, their_)}
    return {
        f"{pairs.get(k.rpartition('.')[0], k.rpartition('.')[0])}.{k.rpartition('.')[2]}": v
        for k, v in tensors.items()
    }


def moco(version: int) -> Callable[[State], Any]:
    def make(weights: State) -> Any:
        head = (
            projection("module.encoder_q.fc.", (0, 2))
            if version == 2
            else {"module.encoder_q.fc.weight": torch.zeros(3, 8)}
        )
        query = {**under("module.encoder_q.", trunk(weights)), **head}
        key = {k.replace("encoder_q", "encoder_k"): v + 1 for k, v in query.items()}
        queue = {"module.queue": torch.zeros(3, 16), "module.queue_ptr": torch.zeros(1, dtype=torch.int64)}
        return {
            "epoch": 200,
            "arch": "resnet50",
            "state_dict": {**query, **key, **queue},
            "optimizer": {"state": {0: {"m": torch.zeros(1)}}},
        }

    return make


def moco_v3(weights: State) -> Any:
    base = {
        **under("module.base_encoder.", trunk(weights)),
        **projection("module.base_encoder.fc.", (0, 3, 6)),
    }
    momentum = {k.replace("base_encoder", "momentum_encoder"): v + 1 for k, v in base.items()}
    return {"arch": "resnet50", "state_dict": {**base, **momentum, **projection("module.predictor.", (0, 3))}}


def dino(weights: State) -> Any:
    head = projection("module.head.mlp.", (0, 2, 4)) | {"module.head.last_layer.weight_g": torch.zeros(4, 1)}
    teacher = {**under("module.backbone.", trunk(weights)), **head}
    student = {k: v + 1 for k, v in teacher.items()}
    return {
        "student": student,
        "teacher": teacher,
        "args": argparse.Namespace(arch="resnet50"),
        "dino_loss": {"center": torch.zeros(1, 4)},
    }


def mmseg(weights: State) -> Any:
    decoder = {
        "decode_head.conv_seg.weight": torch.zeros(19, 8, 1, 1),
        "decode_head.conv_seg.bias": torch.zeros(19),
    }
    rest = {
        "auxiliary_head.conv_seg.weight": torch.zeros(19, 8, 1, 1),
        "auxiliary_head.conv_seg.bias": torch.zeros(19),
    }
    return {
        "meta": {"epoch": np.int64(3), "CLASSES": ("road",)},
        "state_dict": {**under("backbone.", trunk(weights)), **decoder, **rest},
    }


def mmseg_deep(weights: State) -> Any:
    names = (("stem.0", "stem.1"), ("stem.3", "stem.4"), ("stem.6", "stem.7"))
    return mmseg(deep_stem(weights, names))


def torchvision_segmentation(weights: State) -> Any:
    heads = {
        **conv_bn("classifier.0.convs.0"),
        "classifier.4.weight": torch.zeros(21, 3, 1, 1),
        **conv_bn("aux_classifier.0"),
    }
    return {**under("backbone.", trunk(weights)), **heads}


def view_teacher(weights: State) -> Any:
    heads = {
        "projection.0.weight": torch.zeros(8, 32),
        "projection.0.bias": torch.zeros(8),
        "classifier.weight": torch.zeros(4, 8),
    }
    return {"state_dict": {**under("trunk.", trunk(weights)), **heads, "classifier.bias": torch.zeros(4)}}


def miil(weights: State) -> Any:
    return {
        "state_dict": {**trunk(weights), "fc.weight": torch.zeros(11221, 32), "fc.bias": torch.zeros(11221)}
    }


def miil_ema(weights: State) -> Any:
    return {
        "state_dict": {k: v + 1 for k, v in miil(weights)["state_dict"].items()},
        "state_dict_ema": miil(weights)["state_dict"],
    }


def fractaldb(weights: State) -> Any:
    return {**trunk(weights), "fc.weight": torch.zeros(10000, 32), "fc.bias": torch.zeros(10000)}


def stylized(weights: State) -> Any:
    optimizer = {"state": {7: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
    return {
        "epoch": 60,
        "arch": "resnet50",
        "state_dict": under("module.", weights),
        "best_prec1": torch.tensor(60.2),
        "optimizer": optimizer,
    }


DEEP_OPTIONS = {"stem_type": "deep", "stem_width": 4}
# scheme, how such a file is made, options of the network, what is dropped and why,
# how many tensors of the classifier are not loaded
LAYOUTS: list[tuple[str, Callable[[State], Any], dict[str, Any], set[str], int]] = [
    ("moco", moco(1), {}, {"projection head", "momentum copy", "queue of negatives"}, 2),
    ("moco", moco(2), {}, {"projection head", "momentum copy", "queue of negatives"}, 2),
    ("moco-v3", moco_v3, {}, {"projection head", "momentum copy", "prediction head"}, 2),
    ("dino", dino, {}, {"projection head", "not the teacher, which DINO evaluates"}, 2),
    ("mmsegmentation", mmseg, {}, {"segmentation decoder", "auxiliary head"}, 2),
    ("mmsegmentation", mmseg_deep, DEEP_OPTIONS, {"segmentation decoder", "auxiliary head"}, 2),
    ("torchvision-segmentation", torchvision_segmentation, {}, {"segmentation decoder", "auxiliary head"}, 2),
    ("view-teacher", view_teacher, {}, {"projection of pooled views", "classifier of objects"}, 2),
    ("csail", lambda w: deep_stem(trunk(w), DEEP), DEEP_OPTIONS, set(), 2),
    ("miil-21k", miil, {}, set(), 2),
    ("miil-21k", miil_ema, {}, {"not the weights that are used"}, 2),
    ("fractaldb", fractaldb, {}, set(), 2),
    ("stylized-imagenet", stylized, {}, {"no weight"}, 0),
    ("torchvision", dict, {}, set(), 0),
    ("torchvision", lambda w: {"state_dict": trunk(w)}, {}, set(), 2),
]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("scheme, make, options, reasons, left", LAYOUTS)
def test_every_layout_is_recognised_and_lands_where_it_belongs(
    tmp_path: Path,
    scheme: str,
    make: Callable[[State], Any],
    options: dict[str, Any],
    reasons: set[str],
    left: int,
    zipped: bool,
) -> None:
    net = resnet(**options)
    weights = values(net)
    own = {k: v.clone() for k, v in net.state_dict().items()}
    content = make(weights)
    torch.save(content, tmp_path / "a.pth.tar", _use_new_zipfile_serialization=zipped)
    report = load_image_weights(tmp_path / "a.pth.tar", net)
    assert report.scheme == scheme and report.why
    after = net.state_dict()
    assert all(torch.equal(after[k], weights[k]) for k in trunk(weights)), (
        "every tensor of the trunk, and that of the right network"
    )
    classifier = own if left else weights
    assert torch.equal(after["fc.weight"], classifier["fc.weight"]) and torch.equal(
        after["fc.bias"], classifier["fc.bias"]
    )
    assert len(report.missing) + len(report.mismatched) == left and len(report.matched) == len(weights) - left
    assert {why for _, why in report.dropped} == reasons
    held = [
        v
        for k, part in content.items()
        if k not in report.ignored
        for v in (part.values() if isinstance(part, dict) else [part])
    ]
    tensors = sum(isinstance(v, Tensor) for v in held)
    assert len(report.matched) + len(report.mismatched) + len(report.dropped) == tensors, (
        "every tensor of the file is accounted for"
    )
    text = report.render()
    assert f"{len(report.matched)} of {len(weights)} tensors loaded" in text and f"read as {scheme}" in text
    assert (f"NOT loaded, the network keeps its own values: {left} tensors" in text) == bool(left)
    named = resnet(**options)
    assert load_image_weights(tmp_path / "a.pth.tar", named, scheme=scheme).matched == report.matched


def test_full_size_resnet50_in_every_scheme_covers_timms() -> None:
    """Names from torchvision's own networks, an independent list, against timm's resnet50;
    shapes only, on the meta device.
    """
    with torch.device("meta"):
        theirs = dict(torchvision.models.resnet50().state_dict())
        expected = {k: v.shape for k, v in timm.create_model("resnet50").state_dict().items()}
        segmentation = dict(
            torchvision.models.segmentation.fcn_resnet50(weights_backbone=None, aux_loss=True).state_dict()
        )
    files: list[tuple[str, Any]] = [
        (scheme, make(theirs))
        for scheme, make, options, _, _ in LAYOUTS
        if not options and scheme != "torchvision-segmentation"
    ]
    for scheme, content in [*files, ("torchvision-segmentation", segmentation)]:
        found = content if "teacher" in content or "state_dict" in content else {"": content}
        main = next((m for m in ("state_dict_ema", "state_dict", "") if m in found), None)
        parts = {
            k: v for k, v in found.items() if k in ("", "student", "teacher", "state_dict", "state_dict_ema")
        }
        naming = recognise(WeightFile(parts, main, frozenset(content)), expected)
        assert naming is not None and naming.scheme == scheme
        tensors = {new: parts[naming.section][old].shape for old, new in naming.names.items()}
        for name, shape in expected.items():
            if not name.startswith("fc."):
                assert tensors[name] == shape, (scheme, name)
        assert set(tensors) <= set(expected)
        if naming.section in parts:
            assert len(naming.names) + len(naming.dropped) == len(parts[naming.section])


def test_hrnet_from_a_segmentation_checkpoint(tmp_path: Path) -> None:
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in timm.create_model("hrnet_w18_small").state_dict().items()}
    net = timm.create_model("hrnet_w18_small")
    heads = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier.")
    weights = {k: torch.full(s, 0.5) for k, s in shapes.items() if not k.startswith(heads)}
    content = {
        **under("model.", weights),
        **under("model.", conv_bn("last_layer")),
        "loss.criterion.weight": torch.zeros(19),
    }
    torch.save(content, tmp_path / "hrnet.pth")
    report = load_image_weights(tmp_path / "hrnet.pth", net)
    assert report.scheme == "hrnet-semseg" and set(report.matched) == set(weights)
    assert {why for _, why in report.dropped} == {"segmentation head", "class weights of the loss"}
    assert report.missing and all(n.startswith(heads) for n in report.missing)
    assert f"NOT loaded, the network keeps its own values: {len(report.missing)} tensors" in report.render()


@pytest.mark.parametrize(
    "build, parameters", [(bagnet9, 15_688_744), (bagnet17, 16_213_032), (bagnet33, 18_310_184)]
)
def test_bagnet(tmp_path: Path, build: Callable[..., nn.Module], parameters: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in build().parameters()) == parameters  # as published
    sizes = {"layers": (1, 2, 1, 1), "widths": (4, 4, 4, 4), "num_classes": 3}
    net = build(**sizes)
    weights = values(net)
    torch.save(under("module.", weights), tmp_path / "bagnet.pth.tar")
    report = load_image_weights(tmp_path / "bagnet.pth.tar", net)
    assert report.scheme == "bagnet" and len(report.matched) == len(weights)
    with pytest.raises(WeightsError, match=r"read as bagnet, since .*bagnet9, bagnet17 and bagnet33"):
        load_image_weights(tmp_path / "bagnet.pth.tar", resnet(3))


def test_the_classifier_alone_may_differ(tmp_path: Path) -> None:
    weights = values(resnet())
    del weights["layer2.1.bn2.weight"]
    torch.save(moco(2)(weights), tmp_path / "a.pth")
    net = resnet()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(
        WeightsError, match=r"1 missing \(first: layer2.1.bn2.weight\) of a file read as moco"
    ) as error:
        load_image_weights(tmp_path / "a.pth", net)
    assert "\n" not in str(error.value)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_leftovers_make_a_file_unrecognised(tmp_path: Path) -> None:
    content = moco(2)(values(resnet()))
    content["state_dict"]["module.something.weight"] = torch.zeros(2)
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"0 of .* tensors match|none of its"):
        load_image_weights(tmp_path / "a.pth", resnet())
    with pytest.raises(WeightsError, match=r"not in the naming 'moco': it has \d+ tensors of other names"):
        load_image_weights(tmp_path / "a.pth", resnet(), scheme="moco")


def test_a_scheme_that_is_not_the_files(tmp_path: Path) -> None:
    torch.save(moco_v3(values(resnet())), tmp_path / "a.pth")
    with pytest.raises(
        WeightsError,
        match=r"not in the naming 'dino': its names are those of moco-v3 .it consists of a base encoder",
    ):
        load_image_weights(tmp_path / "a.pth", resnet(), scheme="dino")
    with pytest.raises(ValueError, match="scheme must be auto, plain or one of moco"):
        load_image_weights(tmp_path / "a.pth", resnet(), scheme="mocov3")
    with pytest.raises(WeightsError, match=r"0 of|none of"):
        load_image_weights(tmp_path / "a.pth", resnet(), scheme="plain")


@pytest.mark.parametrize("scheme", ["dino", "fractaldb", "miil-21k", "stylized-imagenet"])
def test_files_that_only_their_owner_can_tell_from_torchvisions(tmp_path: Path, scheme: str) -> None:
    weights = values(resnet())
    torch.save(trunk(weights) if scheme == "dino" else weights, tmp_path / "a.pth")
    assert load_image_weights(tmp_path / "a.pth", resnet()).scheme == "torchvision"
    assert load_image_weights(tmp_path / "a.pth", resnet(), scheme=scheme).scheme == scheme


def test_one_of_several_networks_of_a_file(tmp_path: Path) -> None:
    weights = values(resnet())
    torch.save(
        {"state_dict": {k: v + 1 for k, v in weights.items()}, "state_dict_ema": weights},
        tmp_path / "ema.pth",
    )
    net = resnet()
    report = load_image_weights(tmp_path / "ema.pth", net)
    assert torch.equal(net.state_dict()["conv1.weight"], weights["conv1.weight"]), (
        "the average is what was evaluated"
    )
    assert len(report.dropped) == len(weights)
    load_image_weights(tmp_path / "ema.pth", net, part="state_dict")
    assert torch.equal(net.state_dict()["conv1.weight"], weights["conv1.weight"] + 1)
    with pytest.raises(
        WeightsError, match=r"has no part 'teacher': it has state_dict \(\d+ tensors\), state_dict_ema"
    ):
        load_image_weights(tmp_path / "ema.pth", net, part="teacher")
    torch.save(dino(weights), tmp_path / "dino.pth")
    load_image_weights(tmp_path / "dino.pth", net, scheme="plain", part="student", allow=("fc", "head"))
    assert torch.equal(net.state_dict()["conv1.weight"], weights["conv1.weight"] + 1)
    with pytest.raises(WeightsError, match=r"holds several networks .*: name one of them as part"):
        load_image_weights(tmp_path / "dino.pth", net, scheme="plain")


def test_a_deep_stem_does_not_fit_a_plain_one(tmp_path: Path) -> None:
    torch.save(deep_stem(trunk(values(resnet(**DEEP_OPTIONS))), DEEP), tmp_path / "encoder_epoch_20.pth")
    with pytest.raises(WeightsError, match=r"read as csail.*timm's resnet50s"):
        load_image_weights(tmp_path / "encoder_epoch_20.pth", resnet())


def test_a_network_of_the_schemes_own_build_takes_the_file_as_it_is(tmp_path: Path) -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.classifier = resnet(0), nn.Conv2d(32, 4, 1)

    net = Encoder()
    weights = values(net)
    torch.save(weights, tmp_path / "a.pth")
    report = load_image_weights(tmp_path / "a.pth", net)
    assert report.scheme == "plain" and len(report.matched) == len(weights) and not report.dropped


def test_vgg_of_the_imagenet_example_carries_the_wrapper_inside(tmp_path: Path) -> None:
    net = nn.ModuleDict(
        {"features": nn.Sequential(nn.Conv2d(3, 4, 3)), "classifier": nn.Sequential(nn.Linear(4, 5))}
    )
    weights = values(net)
    content = {k.replace("features.", "features.module."): v for k, v in weights.items()}
    torch.save({"arch": "vgg16", "best_prec1": 55.0, "state_dict": content}, tmp_path / "vgg.pth.tar")
    report = load_image_weights(tmp_path / "vgg.pth.tar", net)
    assert report.scheme == "stylized-imagenet" and len(report.matched) == 4


def test_every_scheme_has_a_test() -> None:
    elsewhere = {"hrnet-semseg", "bagnet", "efficientnet-pytorch"}
    assert {scheme for scheme, *_ in LAYOUTS} | elsewhere == set(SCHEMES)
