"""Write docs/models.md: which image networks inflate, found out by inflating them.

    python tools/inflation_table.py            all names, random weights, no download
    python tools/inflation_table.py resnet18   only these, printed and not written

Every row is one `pointlift.inflate` with the default options,
one forward and one backward pass on two small clouds.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import timm
import torch
import torchvision
from torch import nn

import pointlift as pl
from pointlift.inflation.trace import structure_of
from pointlift.system.atomic import atomic_write

PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"
LARGEST = 150_000_000  # parameters of the image network
CLASSES = 40
FAMILIES = {
    "ResNet": "resnet18 resnet34 resnet50 resnet101 resnet152 resnet18d resnet50d wide_resnet50_2 "
    "resnext50_32x4d seresnet50 ecaresnet26t resnet50_gn resnetv2_50 resnet50_clip res2net50_26w_4s "
    "resnest14d skresnet18 torchvision:resnet18 fractal_resnet",
    "VGG, SqueezeNet": "vgg11 vgg11_bn vgg16 vgg16_bn torchvision:vgg11_bn torchvision:squeezenet1_0 "
    "torchvision:squeezenet1_1 torchvision:alexnet",
    "DenseNet, DLA, HRNet": (
        "densenet121 torchvision:densenet121 dla34 dla60 hrnet_w18_small hrnet_w18 vovnet39a ese_vovnet19b_dw"
    ),
    "RegNet": "regnetx_002 regnetx_032 regnety_002 regnety_032 regnetz_b16",
    "Mobile": "mobilenetv2_050 mobilenetv2_100 mobilenetv3_small_100 mobilenetv3_large_100 "
    "torchvision:mobilenet_v2 torchvision:mobilenet_v3_small mnasnet_100 ghostnet_100 lcnet_050 tinynet_e "
    "fbnetc_100 hardcorenas_a mobilenetv4_conv_small rexnet_100 torchvision:shufflenet_v2_x0_5 "
    "torchvision:googlenet",
    "EfficientNet": "efficientnet_b0 efficientnet_lite0 tf_efficientnet_lite0 tf_efficientnet_b0 "
    "efficientnetv2_rw_t tf_efficientnetv2_s torchvision:efficientnet_b0",
    "Darknet, CSP, Xception, Inception": "cspresnet50 cspdarknet53 darknet53 xception41 legacy_xception "
    "inception_v3 inception_v4 selecsls42b",
    "ConvNeXt, RepVGG, NFNet": "convnext_atto convnext_nano torchvision:convnext_tiny convnextv2_atto "
    "repvgg_a0 repvit_m0_9 dm_nfnet_f0 nf_resnet50 "
    "hgnetv2_b0",
    "Transformers and mixers": "vit_tiny_patch16_224 deit_tiny_patch16_224 swin_tiny_patch4_window7_224 "
    "pvt_v2_b0 poolformer_s12 mixer_s32_224 "
    "coat_tiny maxvit_nano_rw_256 efficientformer_l1 levit_128s mobilevit_xxs",
}


@dataclass(frozen=True)
class Row:
    """One image network. reason: why it is refused, or a remark; the numbers are zero where it is refused."""

    name: str
    works: bool
    width: int = 0
    stages: int = 0
    total: int = 0
    io_bn: int = 0
    reason: str = ""


def image_network(name: str) -> nn.Module:
    """`name` with random weights: timm's, one of torchvision's ("torchvision:resnet18"), or our own."""
    if name.startswith("torchvision:"):
        short = name.split(":")[1]
        extra = {"aux_logits": False, "init_weights": False} if short == "googlenet" else {}
        return torchvision.models.get_model(short, weights=None, **extra)  # type: ignore[no-any-return]
    if name == "fractal_resnet":
        from pointlift.models.images.fractal_resnet import fractal_resnet

        return fractal_resnet()
    model: nn.Module = timm.create_model(name, pretrained=False)
    return model


def tiny_clouds() -> pl.SparseTensor:
    """Two clouds of 150 points in the unit cube, at voxel 0.05."""
    generator = torch.Generator().manual_seed(0)
    cloud = pl.PointBatch.from_list([torch.rand(150, 3, generator=generator) for _ in range(2)])
    return pl.voxelize(cloud, 0.05, origin="cloud")


def _runs(net: pl.InflatedNetwork) -> str:
    """Empty where one training step's forward and backward work, else what went wrong."""
    logits = net.train()(tiny_clouds())
    logits.square().sum().backward()
    if tuple(logits.shape) != (2, CLASSES) or not bool(torch.isfinite(logits).all()):
        return f"forward gave {tuple(logits.shape)}, finite: {bool(torch.isfinite(logits).all())}"
    silent = [n for n, p in net.named_parameters() if p.requires_grad and p.grad is None]
    return f"no gradient reaches {silent[0]}" if silent else ""


def row_of(name: str) -> Row:
    """Inflate `name` and find out whether it runs and how large it is."""
    torch.manual_seed(0)
    model = image_network(name)
    count = sum(p.numel() for p in model.parameters())
    if count > LARGEST:
        return Row(name, False, reason=f"not tried: {count:,} parameters")
    remark = ""
    try:
        try:
            net = pl.inflate(model, num_classes=CLASSES)
        except pl.InflationError as error:
            if "stem='inflate'" not in str(error):
                raise
            net, remark = pl.inflate(model, num_classes=CLASSES, stem="inflate"), "with stem='inflate'"
    except pl.InflationError as error:
        return Row(name, False, reason=str(error))
    wrong = _runs(net)
    if wrong:
        return Row(name, False, reason=wrong)
    report = pl.set_finetune(net, "io+bn")
    width = next(m for m in net.head.modules() if isinstance(m, nn.Linear)).in_features
    return Row(name, True, width, len(structure_of(model).stages), report.total, report.trainable, remark)


def render(families: dict[str, list[Row]]) -> str:
    """The page."""
    rows = [r for family in families.values() for r in family]
    works = sum(r.works for r in rows)
    lines = [
        "# Image networks that inflate",
        "",
        f"Written by `python tools/inflation_table.py` with torch {version('torch').split('+')[0]}, timm "
        f"{version('timm')} and torchvision {version('torchvision').split('+')[0]}: "
        f"{works} of {len(rows)} names work. Each was inflated with the default options of "
        "`pointlift.inflate`",
        f"({CLASSES} classes, 3 input channels, 1x1 shortcuts, linear stem, linear-bn head) and ran forward "
        "and backward on two small clouds. Weights were",
        "random: pre-trained ones have the same shapes. A name of torchvision's is written "
        "`torchvision:name`; build that network yourself and pass it to",
        "`pointlift.inflate`. Width is that of the pooled embedding, stages are what `load_stages` counts, "
        "IO+BN is what that regime trains.",
    ]
    for family, members in families.items():
        lines += [
            "",
            f"## {family}",
            "",
            "| name | works | width | stages | parameters | IO+BN trains | |",
            "|---|---|---:|---:|---:|---:|---|",
        ]
        for r in members:
            numbers = f"{r.width:,} | {r.stages} | {r.total:,} | {r.io_bn:,}" if r.works else " | | | "
            lines.append(
                f"| {r.name} | {'yes' if r.works else 'no'} | {numbers} | {r.reason.replace('|', '/')} |"
            )
    return "\n".join(lines) + "\n"


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    families = {"asked for": names} if names else {f: text.split() for f, text in FAMILIES.items()}
    found: dict[str, list[Row]] = {}
    with pl.backend("reference"):
        for family, members in families.items():
            for name in members:
                found.setdefault(family, []).append(row_of(name))
                print(found[family][-1], flush=True)
    if not names:
        with atomic_write(PAGE) as temporary:
            Path(temporary).write_text(render(found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
