"""Vision transformers on groups of points: the same transformer as the image's,
and what is new in front of it.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from pointlift.core.sparse_tensor import PointBatch
from pointlift.data.dataset import collate
from pointlift.data.procedural.shapes import make_shapes
from pointlift.inflation import InflationError, set_finetune
from pointlift.models.points.point_vit import PointViT, interpolated_positions, row_order, token_grid

TINY = {"embed_dim": 48, "depth": 2, "num_heads": 3}
# a class token; with a distillation token; with registers and layer scale; mean pooling, positions of patches
# alone; pooling by attention; normalisation in front and no bias
KINDS: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": {},
    "deit_tiny_distilled_patch16_224": {},
    "vit_small_patch14_reg4_dinov2": {"img_size": 196},
    "vit_small_patch16_224": {"global_pool": "avg", "no_embed_class": True},
    "vit_base_patch16_siglip_224": {},
    "vit_base_patch16_clip_224": {},
}


def image(name: str = "vit_tiny_patch16_224", **options: Any) -> nn.Module:
    """A small transformer all of whose parameters are random, also those that begin at zero or one."""
    torch.manual_seed(0)
    net = timm.create_model(name, **{**TINY, **KINDS.get(name, {}), **options})
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return net.eval()


def clouds(*sizes: int, seed: int = 0) -> PointBatch:
    generator = torch.Generator().manual_seed(seed)
    return PointBatch.from_list([torch.rand(n, 3, generator=generator) * 2 - 1 for n in sizes])


def small(**options: Any) -> PointViT:
    torch.manual_seed(1)
    return PointViT(image(), **{"num_classes": 5, "centres": 16, "neighbours": 8, **options}).eval()


@pytest.mark.parametrize(
    ("name", "published"), [("vit_base_patch16_224", 86_567_656), ("vit_large_patch16_224", 304_326_632)]
)
def test_parameters_are_the_image_models_with_another_first_and_last_layer(name: str, published: int) -> None:
    with torch.device("meta"):
        original = timm.create_model(name)
        net = PointViT(name)
    assert sum(p.numel() for p in original.parameters()) == published
    c = original.embed_dim
    kept = published - (16 * 16 * 3 + 1) * c - (c + 1) * 1000
    assert (
        sum(p.numel() for p in net.parameters())
        == kept + (64 * 3 + 1) * c + (c + 1) * 40 + (16 * 16 - 14 * 14) * c
    )
    assert {"vit_base_patch16_224": 85_433_128, "vit_large_patch16_224": 302_814_248}[name] == sum(
        p.numel() for p in net.parameters()
    )


def test_parameters_of_other_positions() -> None:
    with torch.device("meta"):
        original = timm.create_model("vit_base_patch16_224", depth=2)
        picture = PointViT("vit_base_patch16_224", image_options={"depth": 2}, position="interpolated")
        learned = PointViT(
            "vit_base_patch16_224", image_options={"depth": 2}, position="learned", append_centre=True
        )
    c = original.embed_dim
    kept = sum(p.numel() for p in original.parameters()) - (16 * 16 * 3 + 1) * c - (c + 1) * 1000
    assert sum(p.numel() for p in picture.parameters()) == kept + (64 * 3 + 1) * c + (c + 1) * 40
    mlp = 4 * 128 + (128 + 1) * c
    assert (
        sum(p.numel() for p in learned.parameters())
        == kept - 14 * 14 * c + (64 * 3 + 3 + 1) * c + (c + 1) * 40 + mlp
    )


@pytest.mark.parametrize("name", KINDS)
def test_behind_the_embedding_everything_is_the_image_models_own(name: str) -> None:
    """Patches of a picture, given to the lifted network as tokens,
    become the very features that timm computes.
    """
    original = image(name)
    net = PointViT(original, centres=196).eval()
    pictures = torch.randn(2, 3, *original.patch_embed.img_size)
    with torch.no_grad():
        tokens = original.patch_embed(pictures)
        expected = original.forward_head(original.forward_features(pictures), pre_logits=True)
        assert torch.allclose(
            net.encode(tokens.reshape(2, 196, -1), torch.zeros(2, 196, 3)), expected, atol=1e-5
        )
    assert expected.std() > 0.01


def test_the_grid_of_positions_is_resampled_as_timm_does_for_larger_pictures() -> None:
    original = image(dynamic_img_size=True)
    net = PointViT(original, centres=256).eval()
    pictures = torch.randn(2, 3, 256, 256)
    with torch.no_grad():
        tokens = original.patch_embed(pictures).reshape(2, 256, -1)
        expected = original.forward_head(original.forward_features(pictures), pre_logits=True)
        assert torch.allclose(net.encode(tokens, torch.zeros(2, 256, 3)), expected, atol=1e-5)
    assert net.backbone.pos_embed.shape == (1, 257, 48)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("position", ["unchanged", "interpolated", "learned", "none"])
def test_the_report_tells_of_every_tensor(name: str, position: Any) -> None:
    original = image(name)
    net = PointViT(original, num_classes=7, centres=30, neighbours=8, position=position)
    source, state = original.state_dict(), net.state_dict()
    assert [r.name for r in net.report.rows if r.shape_2d is not None] == list(source)
    assert sorted(r.target for r in net.report.rows if r.target) == sorted(state)
    for row in net.report.rows:
        if row.fate == "copied" and not row.note:
            assert torch.equal(state[row.target], source[row.name])
        elif row.fate == "dropped":
            assert row.name.startswith(("patch_embed.", "head", "pos_embed")) and row.note
        elif row.fate == "re-initialised":
            assert row.target.split(".")[0] in ("patches", "head", "position")
    assert set(net.report.counts()) == {"copied", "dropped", "re-initialised"}
    noted = [r.name for r in net.report.rows if r.fate == "copied" and r.note]
    assert noted == (
        ["pos_embed"]
        if position == "unchanged" or (position != "interpolated" and net.backbone.pos_embed is not None)
        else []
    )


def test_the_image_model_is_not_touched() -> None:
    original = image()
    before = copy.deepcopy(original.state_dict())
    net = PointViT(original, num_classes=3, centres=16, neighbours=4)
    net.train()(clouds(50)).sum().backward()
    assert all(torch.equal(v, before[k]) for k, v in original.state_dict().items())
    assert all(p.grad is None for p in original.parameters())


def test_rows_lie_from_the_top_and_run_to_the_right() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.rand(3, 14, 3, generator=generator)
    found = row_order(centres, (0, 2), 4)
    for cloud, order in zip(centres.tolist(), found.tolist()):
        falling = sorted(range(14), key=lambda i: -cloud[i][2])
        rows = [sorted(falling[a : a + 4], key=lambda i: cloud[i][0]) for a in (0, 4, 8, 12)]
        assert order == [i for row in rows for i in row]
    # equal places keep their order
    assert row_order(torch.zeros(1, 5, 3), (0, 1), 2).tolist() == [[0, 1, 2, 3, 4]]


def test_grids_of_tokens() -> None:
    assert [token_grid(n) for n in (1, 2, 16, 30, 196, 200, 256)] == [
        (1, 1),
        (1, 2),
        (4, 4),
        (5, 6),
        (14, 14),
        (14, 15),
        (16, 16),
    ]


def test_interpolated_positions_by_hand() -> None:
    """Corners of the bounding box get the embeddings of the corners,
    its middle the mean of the four in the middle.
    """
    table = torch.arange(16.0)[:, None] * torch.tensor([1.0, -2.0])
    centres = torch.tensor([[[-3.0, 9, 1], [1, 0, 1], [-3, 0, -3], [1, 0, -3], [-1, 5, -1], [0, 7, -1]]])
    found = interpolated_positions(table, (4, 4), centres, (0, 2))
    assert found.shape == (1, 6, 2)
    assert torch.allclose(found[0, :, 0], torch.tensor([0.0, 3.0, 12.0, 15.0, 7.5, 8.5]), atol=1e-5)
    assert torch.allclose(found[0, :, 1], -2 * found[0, :, 0])
    # the longer side fills the picture, the shorter is centred
    narrow = torch.tensor([[[0.0, 0, 2], [0.0, 0, 0], [1.0, 0, 1]]])
    assert torch.allclose(
        interpolated_positions(table, (4, 4), narrow, (0, 2))[0, :, 0],
        torch.tensor([0.5, 12.5, 8.5]),
        atol=1e-5,
    )
    alone = interpolated_positions(table, (4, 4), torch.ones(2, 1, 3), (0, 2))
    assert torch.allclose(alone[..., 0], torch.full((2, 1), 7.5))


def test_groups_are_the_nearest_points_relative_to_their_centre() -> None:
    cloud = clouds(40, 60)
    net = small(order="fps", in_channels=5, append_centre=True)
    features = torch.cat([cloud.xyz, torch.randn(100, 2)], 1)
    cloud = PointBatch(cloud.xyz, features, cloud.offsets)
    with torch.no_grad():
        tokens, centres = net.tokens(cloud)
        for b, (low, high) in enumerate([(0, 40), (40, 100)]):
            points, extra = cloud.xyz[low:high], features[low:high, 3:]
            assert torch.equal(centres[b, 0], points[0])  # sampling begins at the first point
            for t in range(16):
                near = ((points - centres[b, t]) ** 2).sum(1).argsort()[:8]
                group = torch.cat([points[near] - centres[b, t], extra[near]], 1).flatten()
                expected = net.patches(torch.cat([group, centres[b, t]]))
                assert torch.allclose(tokens[b, t], expected, atol=1e-5)


@pytest.mark.parametrize("position", ["unchanged", "interpolated", "learned", "none"])
def test_what_each_position_sees(position: Any) -> None:
    net, cloud = small(position=position), clouds(64)
    moved = PointBatch(cloud.xyz + torch.tensor([4.0, 2.0, -1.0]), None, cloud.offsets)
    mirrored = PointBatch(cloud.xyz.flip(0), None, cloud.offsets)  # another first point, so other centres
    with torch.no_grad():
        first, shifted, other = net(cloud), net(moved), net(mirrored)
        by_sampling = small(position=position, order="fps")(cloud)
    # groups and pictures are relative
    assert torch.allclose(first, shifted, atol=1e-4) is (position != "learned")
    assert not torch.allclose(first, other, atol=1e-4)
    # a sequence without places has no order
    assert torch.allclose(first, by_sampling, atol=1e-4) is (position != "unchanged")


def test_the_order_of_points_behind_the_first_does_not_matter() -> None:
    net, cloud = small(), clouds(64)
    shuffled = torch.cat(
        [cloud.xyz[:1], cloud.xyz[1:][torch.randperm(63, generator=torch.Generator().manual_seed(0))]]
    )
    with torch.no_grad():
        assert torch.allclose(net(cloud), net(PointBatch(shuffled, None, cloud.offsets)), atol=1e-5)


@pytest.mark.parametrize("position", ["unchanged", "interpolated", "learned"])
def test_small_and_ragged_clouds(position: Any) -> None:
    """Fewer points than centres or neighbours repeat; a cloud's logits do not depend on what is beside it."""
    net, cloud = small(position=position), clouds(100, 1, 7, 12)
    with torch.no_grad():
        together = net(cloud)
        assert bool(torch.isfinite(together).all())
        for b in range(4):
            assert torch.allclose(together[b], net(cloud[b])[0], atol=1e-5)
        tokens, centres = net.tokens(cloud[2])
    assert len({tuple(c) for c in centres[0].tolist()}) == 7 and tokens.shape == (1, 16, 48)
    with pytest.raises(ValueError, match="cloud 1 of 3 has no points"):
        net(clouds(20, 0, 20))


def test_regimes_train_the_embedding_and_the_classifier() -> None:
    net = small(position="learned")
    report = set_finetune(net, "io")
    learns = {n for n, p in net.named_parameters() if p.requires_grad}
    assert {n.split(".")[0] for n in learns} == {"patches", "position", "head"}
    assert report.trainable == sum(p.numel() for n, p in net.named_parameters() if n in learns)
    set_finetune(net, "io+bn")
    assert {
        n.split(".")[-2] for n, p in net.named_parameters() if p.requires_grad and n.startswith("backbone")
    } == {
        "norm1",
        "norm2",
        "norm",
    }
    set_finetune(net, "all")
    net(clouds(30)).square().sum().backward()
    still = [n for n, p in net.named_parameters() if p.grad is None or not bool(p.grad.abs().sum())]
    assert still == []


@pytest.mark.parametrize("name", KINDS)
def test_scratch_keeps_nothing_of_the_image_weights(name: str) -> None:
    nets = [PointViT(image(name), num_classes=3, centres=16, neighbours=4) for _ in range(2)]
    with torch.no_grad():
        for p in nets[1].parameters():
            p.add_(1.0)
    before = {k: v.clone() for k, v in nets[0].state_dict().items()}
    for net in nets:
        set_finetune(net, "scratch", seed=5)
    for key, value in nets[0].state_dict().items():
        assert torch.equal(value, nets[1].state_dict()[key]), key
        assert not torch.equal(value, before[key]) or key == "head.bias", key


def test_arguments_build_it_again() -> None:
    torch.manual_seed(3)
    net = PointViT(
        "vit_tiny_patch16_224",
        6,
        image_options=TINY,
        centres=20,
        neighbours=4,
        position="interpolated",
        axes="zy",
    ).eval()
    again = PointViT(**json.loads(json.dumps(net.arguments))).eval()
    again.load_state_dict(net.state_dict())
    cloud = clouds(60, 30)
    assert torch.equal(net(cloud), again(cloud))
    module = image()
    of_module = PointViT(module, centres=20, neighbours=4)
    rebuilt = PointViT(module, **json.loads(json.dumps(of_module.arguments)))
    assert {k: v.shape for k, v in rebuilt.state_dict().items()} == {
        k: v.shape for k, v in of_module.state_dict().items()
    }


def test_gradient_checkpointing_of_the_image_model_holds() -> None:
    net, cloud = small(), clouds(40)
    grads: list[Tensor] = []
    for on in (False, True):
        net.zero_grad()
        net.backbone.set_grad_checkpointing(on)
        net.train()(cloud).square().sum().backward()
        grads.append(net.patches.weight.grad.clone())  # type: ignore[union-attr]
    assert torch.allclose(grads[0], grads[1], atol=1e-6) and bool(grads[0].abs().sum())


def test_a_frozen_image_model_learns_and_a_frozen_part_of_it_does_not() -> None:
    frozen = image().requires_grad_(False)
    assert all(p.requires_grad for p in PointViT(frozen, centres=16).parameters())
    partly = image()
    partly.cls_token.requires_grad_(False)
    net = PointViT(partly, centres=16)
    set_finetune(net, "all")
    assert net.fixed == {"backbone.cls_token"} and not net.backbone.cls_token.requires_grad


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18", "ResNet cannot read groups of points: timm's VisionTransformer is"),
        ("swin_tiny_patch4_window7_224", "SwinTransformer cannot read groups of points"),
        ("vit_relpos_small_patch16_224", "VisionTransformerRelPos cannot read groups of points"),
    ],
)
def test_other_image_models_are_refused(name: str, message: str) -> None:
    with torch.device("meta"), pytest.raises(InflationError, match=message):
        PointViT(timm.create_model(name))


def test_other_models_are_refused_in_one_sentence() -> None:
    class Own(timm.models.VisionTransformer):
        def forward_features(
            self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
        ) -> Tensor:
            return x

    with pytest.raises(InflationError, match="Own has a forward_features of its own"):
        PointViT(Own(**TINY))
    with pytest.raises(InflationError, match="does not pool its tokens: make it with global_pool"):
        PointViT(image(global_pool=""))
    with pytest.raises(InflationError, match="no position embeddings to interpolate"):
        PointViT(image(pos_embed="none"), position="interpolated")
    assert "told nothing of their place" in str(PointViT(image(pos_embed="none")).report)
    with pytest.raises(ValueError, match="There is no model named 'vit_tiny'"):
        PointViT("vit_tiny")
    with pytest.raises(ValueError, match="for image models that are given by name"):
        PointViT(image(), pretrained=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"centres": 0}, "centres must be an integer of at least 1, got 0"),
        ({"neighbours": 2.0}, "neighbours must be an integer of at least 1, got 2.0"),
        ({"in_channels": 2}, "in_channels must be an integer of at least 3, got 2"),
        ({"num_classes": 0}, "num_classes must be an integer of at least 1, got 0"),
        (
            {"position": "fixed"},
            "position must be one of unchanged, interpolated, learned, none, got 'fixed'",
        ),
        ({"order": "morton"}, "order must be one of rows, fps, got 'morton'"),
        ({"axes": "xx"}, "axes must be two different letters of x, y and z"),
    ],
)
def test_options_outside_their_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PointViT(image(), **options)


def test_features_of_another_width() -> None:
    net = small(in_channels=6)
    with pytest.raises(
        ValueError, match="takes features of 6 channels that start with xyz, got none: set data"
    ):
        net(clouds(20))
    with pytest.raises(TypeError, match="takes a PointBatch, got Tensor"):
        net(torch.zeros(20, 3))


def test_it_learns_to_tell_shapes_apart() -> None:
    classes = ("aeroplane", "guitar", "sofa")
    train, test = (
        [dataset[i] for i in range(len(dataset))]
        for dataset in (
            make_shapes(40, 128, 0, "train", classes=classes),
            make_shapes(16, 128, 0, "test", classes=classes),
        )
    )
    torch.manual_seed(0)
    net = PointViT("vit_tiny_patch16_224", 3, image_options=TINY, centres=16, neighbours=16)
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3)
    for _ in range(100):
        batch = collate([train[i] for i in torch.randperm(len(train))[:16].tolist()])
        loss = nn.functional.cross_entropy(net.train()(batch), batch.labels["class"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    unseen = collate(test)
    with torch.no_grad():
        accuracy = (net.eval()(unseen).argmax(1) == unseen.labels["class"]).float().mean()
    assert float(accuracy) > 0.6  # chance is a third; four standard deviations of 48 guesses above it
