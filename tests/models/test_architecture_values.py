"""What a count of parameters cannot see of networks: radii, neighbours, centres, strides, kinds of pooling,
dropout, slopes and the momentum of batch statistics, against the papers (docs/facts.md, 5.1 to 5.6).

Twice: read off the modules that are built by name, and by what they do: `plain_networks.py` computes the same
again from the numbers that are typed here, so that an attribute which nothing looks at is found too.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest
import torch
from plain_networks import plain_dgcnn, plain_pointmlp, plain_pointnet2, plain_rscnn
from torch import Tensor, nn

from pointlift.core.sparse_tensor import PointBatch
from pointlift.inflation.network import make_head, make_stem
from pointlift.models import create_model, image_network
from pointlift.models.factory import IMAGE_NETWORKS, POINT_NETWORKS
from pointlift.nn import CloudNetwork

# facts 5.1, 5.2: PointNet++ (NeurIPS 2017, appendix B); nsample 64 in SSG's first level, where the original
# code has 32
SSG = {"npoint": [512, 128], "radii": [[0.2], [0.4]], "nsample": [[64], [64]]}
MSG = {
    "npoint": [512, 128],
    "radii": [[0.1, 0.2, 0.4], [0.2, 0.4, 0.8]],
    "nsample": [[16, 32, 128], [32, 64, 128]],
}
# facts 5.3: DGCNN's classifier for 1,024 points
DGCNN = {"k": 20, "slope": 0.2}
# facts 5.4: RS-CNN, single-scale neighbourhoods
RSCNN = {"npoint": [512, 128], "radii": [0.23, 0.32], "nsample": [48, 64]}
# facts 5.5: PointMLP and its elite version
POINTMLP = {"npoint": [512, 256, 128, 64], "k": 24, "pre": [2, 2, 2, 2], "pos": [2, 2, 2, 2]}
ELITE = {"npoint": [512, 256, 128, 64], "k": 24, "pre": [1, 1, 2, 1], "pos": [1, 1, 2, 1]}
# facts 5.6: SimpleView
SIMPLEVIEW = {"image_size": 128, "distance": 1.4}
# Image2Point v2, appendix A: "we sample 256 centers and group 64 nearby points"
POINT_VIT = {"centres": 256, "neighbours": 64}


@functools.cache
def built(name: str) -> CloudNetwork:
    """The network `name` in evaluation mode, none of whose normalisations is the identity."""
    torch.manual_seed(0)
    net = create_model(name).eval()
    generator = torch.Generator().manual_seed(1)
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            low_high = {"weight": (0.7, 1.3), "bias": (-0.3, 0.3)}
            low_high |= {"running_mean": (-0.3, 0.3), "running_var": (0.5, 1.5)}
            with torch.no_grad():
                for kind, bounds in low_high.items():
                    getattr(norm, kind).uniform_(*bounds, generator=generator)
        elif hasattr(norm, "alpha"):  # PointMLP's affine module
            with torch.no_grad():
                norm.alpha.uniform_(0.7, 1.3, generator=generator)
                norm.beta.uniform_(-0.3, 0.3, generator=generator)
    return net


@functools.cache
def cloud(points: int = 640) -> Tensor:
    """Half of the points in a small crowd, in which every ball has more of them than are taken; the others
    spread over the unit sphere, where it is the radius that decides."""
    generator = torch.Generator().manual_seed(2)
    spread, crowd = (
        nn.functional.normalize(torch.randn(points // 2, 3, generator=generator), dim=1)
        * torch.rand(points // 2, 1, generator=generator) ** (1 / 3)
        for _ in range(2)
    )
    return torch.stack([spread, 0.15 * crowd + 0.2], 1).flatten(0, 1)


def attributes(modules: Any, *names: str) -> dict[str, list[Any]]:
    """What `modules` say of themselves: name -> one value per module, tuples as lists."""
    found: dict[str, list[Any]] = {}
    for name in names:
        values = [getattr(module, name) for module in modules]
        found[name] = [list(v) if isinstance(v, tuple) else v for v in values]
    return found


# ------------------------------------------------------------------------------------ read off the modules


@pytest.mark.parametrize(("name", "expected"), [("ssg", SSG), ("msg", MSG)])
@pytest.mark.parametrize("task", ["", "-parts"])
def test_pointnet2_levels(name: str, expected: dict[str, Any], task: str) -> None:
    net = built(f"pointnet2-{name}{task}")
    assert attributes(net.levels, "npoint", "radii", "nsample") == expected
    assert net.arguments["npoint"] == expected["npoint"] and net.arguments["sampling_start"] == "first"


def test_levels_and_stages_of_the_other_students() -> None:
    assert attributes(built("rscnn").levels, "npoint", "radius", "nsample", "aliasing") == {
        "npoint": RSCNN["npoint"],
        "radius": RSCNN["radii"],
        "nsample": RSCNN["nsample"],
        "aliasing": [False, False],
    }
    for name, expected in (("pointmlp", POINTMLP), ("pointmlp-elite", ELITE)):
        stages: Any = built(name).stages
        assert attributes(stages, "npoint", "k") == {"npoint": expected["npoint"], "k": [expected["k"]] * 4}
        assert [len(s.pre) for s in stages] == expected["pre"]
        assert [len(s.pos) for s in stages] == expected["pos"]
        assert [(s.affine.sigma, s.affine.eps) for s in stages] == [("sample", 1e-5)] * 4
    dgcnn: Any = built("dgcnn")
    assert dgcnn.k == DGCNN["k"] and [edge.slope for edge in dgcnn.edges] == [DGCNN["slope"]] * 4
    assert {m.negative_slope for m in dgcnn.modules() if isinstance(m, nn.LeakyReLU)} == {DGCNN["slope"]}
    simpleview: Any = built("simpleview")
    assert {k: getattr(simpleview, k) for k in SIMPLEVIEW} == SIMPLEVIEW
    tiny = {"embed_dim": 24, "depth": 1, "num_heads": 2}
    vit: Any = create_model("vit_tiny_patch16_224", image_options=tiny)
    assert {k: getattr(vit, k) for k in POINT_VIT} == POINT_VIT
    assert (vit.position_kind, vit.order, vit.axes, vit.append_centre) == ("unchanged", "rows", (0, 1), False)


# facts 5.1 to 5.6, head of every classifier, and PointNet++'s of points (its own: one layer of 128)
DROPOUT = {
    "pointnet2-ssg": [0.5, 0.5],
    "pointnet2-msg": [0.5, 0.5],
    "pointnet2-ssg-parts": [0.5],
    "pointnet2-msg-parts": [0.5],
    "dgcnn": [0.5, 0.5],
    "rscnn": [0.5, 0.5],
    "pointmlp": [0.5, 0.5],
    "pointmlp-elite": [0.5, 0.5],
    "simpleview": [0.5, 0.5],
    "linear-network": [],  # Image2Point v1, listing 1
    # scenes: PointNet++'s classifier of points, and networks without dropout (listing 6, facts 2.3)
    "pointnet2-ssg-scenes": [0.5],
    "pointnet2-msg-scenes": [0.5],
    "linear-network-points": [],
    **{f"res16unet{depth}{planes}": [] for depth in (14, 18, 34, 50) for planes in "abc"},
}
# of which one is enough for what all of them share: they are large
ALIKE = {f"res16unet{depth}{planes}" for depth in (18, 34, 50) for planes in "abc"} | {
    "res16unet14b",
    "res16unet14c",
}


def test_every_network_of_points_is_pinned() -> None:
    from_a_package = {"efficientnet_lite0_imagenet"}  # timm's network, strictly filled with released weights
    assert set(DROPOUT) == set(POINT_NETWORKS) and set(MOMENTUM) == set(IMAGE_NETWORKS) - from_a_package


@pytest.mark.parametrize("name", [n for n in DROPOUT if n not in ALIKE])
def test_dropout_and_batch_statistics(name: str) -> None:
    """torch's own momentum and eps, with which all of them were published; recipes change the momentum."""
    net = built(name)
    dropouts = [m for m in net.modules() if isinstance(m, nn.modules.dropout._DropoutNd)]
    assert [m.p for m in dropouts] == DROPOUT[name]
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms and {(m.momentum, m.eps) for m in norms} == {(0.1, 1e-5)}
    activations = {type(m) for m in net.modules() if isinstance(m, nn.ReLU | nn.LeakyReLU | nn.GELU)}
    linear: dict[str, set[type]] = {"linear-network": set(), "linear-network-points": set()}
    expected = {"dgcnn": {nn.LeakyReLU}, **linear}.get(name, {nn.ReLU})
    assert activations == expected


# BagNet: the momentum of its first normalisation is as in its authors' code (`pytorchnet.py`)
MOMENTUM = {
    "fractal_resnet": {0.1},
    "pointcontrast_resnet34": {0.1},
    "bagnet9": {0.1, 0.001},
    "bagnet17": {0.1, 0.001},
    "bagnet33": {0.1, 0.001},
}
# the convolutions that make maps smaller, and their kernels. facts 1.3 for PointContrast's shape, behind an
# ImageNet stem; BagNet (ICLR 2019) halves at the beginning of its first three stages, 3x3 where it still may
HALVING: dict[str, dict[str, int]] = {
    "fractal_resnet": {
        "conv1": 3,
        **{f"layer{s}.0.{c}": k for s in (2, 3, 4) for c, k in (("conv1", 3), ("shortcut.0", 1))},
    },
    "pointcontrast_resnet34": {"conv1": 7, **{f"layer{s}.down.conv": 2 for s in (2, 3, 4)}},
    "bagnet9": {"layer1.0.conv2": 3, "layer2.0.conv2": 3, "layer3.0.conv2": 1},
    "bagnet17": {"layer1.0.conv2": 3, "layer2.0.conv2": 3, "layer3.0.conv2": 3},
    "bagnet33": {"layer1.0.conv2": 3, "layer2.0.conv2": 3, "layer3.0.conv2": 3},
}


@pytest.mark.parametrize("name", MOMENTUM)
def test_image_networks(name: str) -> None:
    net = image_network(name)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {m.momentum for m in norms} == MOMENTUM[name] and {m.eps for m in norms} == {1e-5}
    assert not [m for m in net.modules() if isinstance(m, nn.modules.dropout._DropoutNd)]
    convolutions = {n: m for n, m in net.named_modules() if isinstance(m, nn.Conv2d)}
    halving = {n: m for n, m in convolutions.items() if m.stride != (1, 1)}
    assert all(m.stride == (2, 2) for m in halving.values())
    assert all(m.dilation == (1, 1) for m in convolutions.values())
    own = {n: m.kernel_size[0] for n, m in halving.items() if "downsample" not in n}
    assert own == HALVING[name]
    beside = [n for n in halving if "downsample" in n]
    assert len(beside) == (3 if name.startswith("bagnet") else 0)


def test_input_and_output_layers_of_inflated_networks() -> None:
    """Image2Point v1, listing 3 and v2, listing 1: facts 1.11."""
    three: Any = make_stem("three-conv", 3, 64)
    assert [(m.kernel_size, m.stride) for m in three if hasattr(m, "kernel_size")] == [(3, 1), (3, 1), (3, 2)]
    assert [type(m).__name__ for m in three] == ["SparseConv3d", "SparseBatchNorm", "ReLU"] * 3
    linear: Any = make_stem("linear", 3, 64)
    assert [type(m).__name__ for m in linear] == ["SparseConv3d", "SparseBatchNorm"], "no activation"
    assert (linear[0].kernel_size, linear[0].stride) == (3, 1)
    assert [type(m) for m in make_head("linear-bn", 512, 40)] == [nn.Linear, nn.BatchNorm1d]
    kinds = [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert [type(m) for m in make_head("mlp", 512, 40)] == kinds
    for norm in (three[1], linear[1], make_head("linear-bn", 512, 40)[1]):
        assert (norm.momentum, norm.eps) == (0.1, 1e-5)


# ------------------------------------------------------------------------------------ what they do


@torch.no_grad()
def what_comes_out(net: CloudNetwork, xyz: Tensor, places: list[str]) -> list[Tensor]:
    """Features of every place for one cloud, its embedding and its logits."""
    found: list[Tensor] = []

    def keep(module: nn.Module, args: Any, out: Any) -> None:
        found.append(out[1] if isinstance(out, tuple) else out)

    handles = [net.get_submodule(place).register_forward_hook(keep) for place in places]
    embedding = net.forward_features(PointBatch.from_list([xyz]))
    for handle in handles:
        handle.remove()
    return [*found, embedding[0], net.forward_head(embedding)[0]]


def places(net: CloudNetwork) -> list[str]:
    return [str(info["module"]) for info in net.feature_info]


PLAIN: dict[str, Any] = {
    "pointnet2-ssg": lambda w, xyz: plain_pointnet2(w, xyz, **SSG),
    "pointnet2-msg": lambda w, xyz: plain_pointnet2(w, xyz, **MSG),
    "dgcnn": lambda w, xyz: plain_dgcnn(w, xyz, **DGCNN),
    "rscnn": lambda w, xyz: plain_rscnn(w, xyz, **RSCNN),
    "pointmlp": lambda w, xyz: plain_pointmlp(w, xyz, **POINTMLP),
    "pointmlp-elite": lambda w, xyz: plain_pointmlp(w, xyz, **ELITE),
}


@pytest.mark.parametrize("name", PLAIN)
@torch.no_grad()
def test_the_network_computes_what_the_paper_describes(name: str) -> None:
    """Level by level: a maximum over everything hides what few points do."""
    net, xyz = built(name), cloud()
    expected = PLAIN[name](net.state_dict(), xyz)
    found = what_comes_out(net, xyz, places(net))
    assert len(found) == len(expected) >= 4
    for level, (one, other) in enumerate(zip(found, expected, strict=True)):
        # sums in another order
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-4), f"output {level} of {name}"


def test_dgcnn_searches_each_graph_in_the_features_it_works_on() -> None:
    net: Any = create_model("dgcnn", widths=(16, 16, 32, 32), embedding=32, k=7).eval()
    xyz = cloud()[:90]

    @torch.no_grad()
    def graphs() -> list[tuple[Tensor, Tensor]]:
        seen: list[tuple[Tensor, Tensor]] = []
        handles = [e.register_forward_pre_hook(lambda _, args: seen.append(args)) for e in net.edges]
        net(PointBatch.from_list([xyz]))
        for handle in handles:
            handle.remove()
        return seen

    first = graphs()
    for features, index in first:
        expected = torch.cdist(features, features).argsort(1)[:, :7]
        assert torch.equal(index.sort(1).values, expected.sort(1).values)
    indices = [index.sort(1).values for _, index in first]
    assert all(not torch.equal(a, b) for i, a in enumerate(indices) for b in indices[:i])
    with torch.no_grad():  # other features of the second layer, and nothing else
        net.edges[1].linear.weight.copy_(torch.randn_like(net.edges[1].linear.weight))
    second = [index.sort(1).values for _, index in graphs()]
    assert [torch.equal(a, b) for a, b in zip(indices, second)] == [True, True, False, False]


FEW: dict[str, Any] = {"npoint": (24, 8)}
# small ones, and where the rows come from that are pooled last
LAST: dict[str, tuple[str, dict[str, Any]]] = {
    "pointmlp": (
        "stages.1.pos",
        {"expansion": (2, 2), "pre_blocks": (1, 1), "pos_blocks": (1, 1), "width": 8},
    ),
    "pointnet2-ssg": ("whole.mlp", {}),
    "pointnet2-msg": ("whole.mlp", {}),
    "rscnn": ("whole.mlp", {}),
}


@pytest.mark.parametrize("name", LAST)
@torch.no_grad()
def test_the_last_pooling_is_a_maximum(name: str) -> None:
    place, options = LAST[name]
    net, one = create_model(name, **FEW, **options).eval(), PointBatch.from_list([cloud()[:90]])
    change: list[Any] = [lambda rows: rows]
    handle = net.get_submodule(place).register_forward_hook(lambda *call: change[0](call[2]))
    try:
        before = net.forward_features(one)
        change[0] = lambda rows: torch.where(rows < rows.amax(0), rows - 1, rows)
        assert torch.equal(net.forward_features(one), before), "what is not the greatest plays no part"
        change[0] = lambda rows: torch.where(rows == rows.amax(0), rows + 1, rows)
        assert torch.allclose(net.forward_features(one), before + 1)
    finally:
        handle.remove()


def test_dgcnn_pools_by_maximum_and_mean() -> None:
    net: Any = built("dgcnn")
    hidden: list[Tensor] = []
    handle = net.shared.register_forward_hook(lambda *call: hidden.append(call[2]))
    with torch.no_grad():
        embedding = net.forward_features(PointBatch.from_list([cloud(100)]))
    handle.remove()
    assert torch.equal(embedding[0, :1024], hidden[0].amax(0))
    assert torch.allclose(embedding[0, 1024:], hidden[0].mean(0), atol=1e-6)


BALLS = [
    (name, level, scale, radius, count)
    for name, numbers in (("pointnet2-ssg", SSG), ("pointnet2-msg", MSG))
    for level in (0, 1)
    for scale, (radius, count) in enumerate(zip(numbers["radii"][level], numbers["nsample"][level]))  # type: ignore[arg-type]
]
BALLS += [("rscnn", level, 0, RSCNN["radii"][level], RSCNN["nsample"][level]) for level in (0, 1)]  # type: ignore[misc]


@pytest.mark.parametrize(("name", "level", "scale", "radius", "count"), BALLS)
@torch.no_grad()
def test_what_a_ball_holds(name: str, level: int, scale: int, radius: float, count: int) -> None:
    """A point just inside of it changes the centre's feature, one just outside does not; of more points than
    it takes, the last it takes does and the next does not."""
    layer: Any = built(name).levels[level]
    layer = copy.copy(layer)
    layer.npoint = 2  # which centre it is plays no part here
    widths = [layer.out_channels] if name == "rscnn" else [mlp[-1][1].num_features for mlp in layer.mlps]
    own = slice(sum(widths[:scale]), sum(widths[: scale + 1]))
    generator = torch.Generator().manual_seed(level)

    def of_the_first(xyz: Tensor) -> Tensor:
        features = torch.ones(len(xyz), layer.in_channels)
        features[-1] = features[-1] * 3
        given = features if layer.in_channels else None
        rows: Tensor = layer(xyz, given, torch.tensor([0, len(xyz)]))[1]
        return rows[0, own]

    centre, far = torch.zeros(1, 3), of_the_first(torch.tensor([[0.0, 0, 0], [0, 0, 9]]))
    directions = nn.functional.normalize(torch.randn(20, 1, 3, generator=generator), dim=2)
    # a maximum over two points is often that of the one: somewhere the other one has a say
    direction = next(
        d
        for d in directions
        if not torch.allclose(of_the_first(torch.cat([centre, d * 0.7 * radius])), far, atol=1e-4)
    )
    outside, inside = (of_the_first(torch.cat([centre, direction * d * radius])) for d in (1.001, 0.999))
    assert torch.equal(outside, far) and not torch.equal(inside, far)
    # the centre and its copies, then one more point in the ball
    taken, beyond = (
        of_the_first(torch.cat([centre.expand(copies, 3), direction * 0.7 * radius]))
        for copies in (count - 1, count)
    )
    assert not torch.allclose(taken, far, atol=1e-4) and torch.allclose(beyond, far, atol=1e-6)
