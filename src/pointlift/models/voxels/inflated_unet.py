"""Image2Point's networks for segmentation: an inflated image network, and a decoder that leads its last map
back to all voxels (v2, section 4.2 and listing 2; v1, listings 4 and 6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from pointlift.core.sparse_tensor import SparseTensor
from pointlift.inflation import InflatedNetwork, InflationError, inflate
from pointlift.inflation.report import TensorFate
from pointlift.inflation.surgery import set_module
from pointlift.inflation.trial import trial_voxels
from pointlift.models.voxels.unet_decoder import (
    RELEASED_WIDTHS,
    Decoder,
    DecoderKind,
    Hypercolumn,
    SkipLevel,
)
from pointlift.nn import SparseBatchNorm, SparseConv3d
from pointlift.nn.point_labels import VoxelLabeller
from pointlift.nn.residual import conv_norm

__all__ = ["InflatedUNet"]

RELEASED_DROPOUT = 0.3  # facts 1.6


class InflatedUNet(VoxelLabeller, InflatedNetwork):
    """`head(decoder(maps of backbone(stem(voxels))))`: logits for every point.

    The skips are the last map of every stride among those that timm lists for the image network
    (`feature_info`), or of its stages where timm lists none, and one of the finest voxels: the input layer's.
    What the image network has behind the last map is left out. With ResNet-18 and the default options:

        x0 = relu(bn(k3 (relu(bn(k3(voxels))))))     64 channels, stride 1
        x1..x4 = layer1..4(relu(bn(k3 s2 (x0))))     64, 128, 256, 512 channels, strides 2, 4, 8, 16
        decoder(x4; x3, x2, x1, x0), one linear layer

    The listings take x0 behind the strided convolution, on whose voxels no k2 s2 transposed convolution can
    end; here, as in the released code, it is taken before.

    Args:
        image_model: the image network, which itself is not changed.
        in_channels: features per voxel. num_classes: width of the logits.
        rule, axis, shortcut_kernel, load_stages, start: as for `pointlift.inflate`.
        stem: "three-conv" (v2's listing 2, v1's listing 4), "linear" (v1's listing 6), or "inflate": the
            image network's own, beside which one k3 convolution with BN and ReLU (`entry`) keeps the finest
            voxels.
        decoder: "residual" (v2's listing 2, v1's listing 4), "simple" (v1's listing 6), or "released": that
            of the code (facts 1.6), with which the third convolution of "three-conv" has kernel 2. The
            released network has shortcut_kernel 2 as well. "hypercolumn": no decoder, the maps of the encoder
            side by side at the finest voxels, for linear probes; with the stem "inflate" the linear layer is
            all that is new.
        widths: of the decoder's steps, from coarse to fine; not of hypercolumn. None: what the listings have,
            the channels of the stage that a step meets, and again those of the first stage; released: 512,
            256, 192, 192.
        dropout: of the last map. None: 0.3 for released, else none.

    The decoder has no image weights: with the linear layer it is the output layer, which every regime trains
    ("for semantic segmentation, the output layer is a U-Net style decoder", v2, section 3).

    Raises InflationError as `inflate`, and for an image network with maps of one stride only; ValueError for
    unknown options and for widths that do not fit.
    """

    kind = "unet"
    output_modules: ClassVar[tuple[str, ...]] = ("entry", "decoder", "head")

    def __init__(
        self,
        image_model: nn.Module,
        in_channels: int = 3,
        num_classes: int = 13,
        rule: str | Tensor | Sequence[Sequence[float]] = "repeat",
        axis: str = "z",
        stem: str = "three-conv",
        shortcut_kernel: int = 1,
        load_stages: Sequence[int] | None = None,
        start: str = "default",
        decoder: DecoderKind = "residual",
        widths: Sequence[int] | None = None,
        dropout: float | None = None,
    ) -> None:
        encoder = inflate(
            image_model,
            rule,
            axis,
            in_channels,
            num_classes=0,
            stem=stem,
            shortcut_kernel=shortcut_kernel,
            load_stages=load_stages,
            start=start,
            seed=int(torch.randint(2**62, ())),
        )
        device = next(encoder.parameters()).device
        skips = _last_of_every_stride(encoder.maps_info)
        _leave_out_what_follows(encoder, skips[-1]["module"], in_channels)
        released = decoder == "released"
        given = {k: encoder.arguments[k] for k in ("rule", "axis", "stem", "shortcut_kernel", "load_stages")}
        arguments = {
            **given,
            "start": start,
            "in_channels": in_channels,
            "num_classes": num_classes,
            "decoder": decoder,
            "widths": None if widths is None else list(widths),
            "dropout": (RELEASED_DROPOUT if released else 0.0) if dropout is None else dropout,
        }
        inputs = [n.removeprefix("backbone.") for n in encoder.input_modules if n != "stem"]
        super().__init__(encoder.stem, encoder.backbone, nn.Identity(), encoder.report, arguments, inputs)
        self.maps_info, self.skips = encoder.maps_info, [str(s["module"]) for s in skips]
        if released and stem == "three-conv":
            old: Any = self.stem[6]  # type: ignore[index]
            self.stem[6] = SparseConv3d(old.in_channels, old.out_channels, 2, stride=2)  # type: ignore
        levels = [SkipLevel(int(s["num_chs"]), int(s["reduction"])) for s in skips]
        finest = self._finest_channels(levels[0].channels)
        self.entry: nn.Module = nn.Identity()
        if stem == "inflate" and decoder != "hypercolumn":
            self.entry = conv_norm(in_channels, finest, 3)
        self.decoder = _decoder(decoder, [SkipLevel(finest, 1), *levels], stem, widths, arguments["dropout"])
        self.head = nn.Linear(self.decoder.out_channels, num_classes)
        _report_new_layers(self)
        self.to(device)

    def _finest_channels(self, first: int) -> int:
        """Channels of the skip at the finest voxels: the input layer's, or those of the trunk's first map."""
        norms = [m for m in self.stem.modules() if isinstance(m, SparseBatchNorm)]
        return norms[0].num_features if norms else first

    def forward_voxels(self, voxels: SparseTensor) -> SparseTensor:
        """(M, widths[-1]) on the input's voxels."""
        stem: Any = self.stem
        if self.arguments["stem"] == "three-conv":
            finest = stem[:6](voxels)
            x = stem[6:](finest)
        elif self.arguments["stem"] == "linear":
            x = finest = stem(voxels)
        else:
            x, finest = voxels, self.entry(voxels)
        maps = self._trunk_maps(x)
        if not isinstance(self.decoder, Hypercolumn):
            return cast(SparseTensor, self.decoder([finest, *maps]))
        made = [] if finest is voxels else [finest]  # the stem "inflate" has no map of the finest voxels
        return self.decoder.forward(voxels, [*made, *maps])

    def _trunk_maps(self, x: SparseTensor) -> list[SparseTensor]:
        """The maps of `skips`, from fine to coarse."""
        found: dict[str, SparseTensor] = {}

        def keep(name: str, module: nn.Module, args: Any, out: SparseTensor) -> None:
            found[name] = out.with_features(out.features)  # later layers may change the object

        handles = [self.get_submodule(n).register_forward_hook(partial(keep, n)) for n in self.skips]
        try:
            self.backbone(x)
        finally:
            for handle in handles:
                handle.remove()
        return [found[name] for name in self.skips]


def _last_of_every_stride(maps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries of feature_info from fine to coarse."""
    last = {int(entry["reduction"]): entry for entry in maps}
    if len(last) < 2:
        raise InflationError(
            f"A U-Net needs maps of at least two strides, but the image network has {len(last)} "
            f"({', '.join(str(m['module']).removeprefix('backbone.') for m in maps) or 'none'}): choose a "
            "network whose stages halve their maps."
        )
    return [last[stride] for stride in sorted(last)]


def _leave_out_what_follows(encoder: InflatedNetwork, deepest: str, in_channels: int) -> None:
    """Put nothing in place of layers with weights that run only behind the module `deepest`: no gradient
    would ever reach them.
    """
    before: set[str] = set()
    still = [True]

    def ran(name: str, module: nn.Module, args: Any, out: Any) -> None:
        if still[0]:
            before.add(name)

    def closed(module: nn.Module, args: Any, out: Any) -> None:
        still[0] = False

    leaves = {n: m for n, m in encoder.named_modules() if n and not list(m.children())}
    handles = [m.register_forward_hook(partial(ran, n)) for n, m in leaves.items()]
    handles.append(encoder.get_submodule(deepest).register_forward_hook(closed))
    was_training = encoder.training
    try:
        with torch.no_grad():
            encoder.eval().forward_features(trial_voxels(in_channels, next(encoder.parameters()).device))
    finally:
        encoder.train(was_training)
        for handle in handles:
            handle.remove()
    known = {leaves[n] for n in before}
    behind = [n for n, m in leaves.items() if m not in known and m.state_dict()]
    for name in behind:
        set_module(encoder, name, nn.Identity())
    encoder.report.rows[:] = [
        replace(row, fate="dropped", shape_3d=None, target="", note="behind the last map")
        if any(row.target.startswith(f"{name}.") for name in behind)
        else row
        for row in encoder.report.rows
    ]


def _decoder(
    kind: DecoderKind, levels: Sequence[SkipLevel], stem: str, widths: Sequence[int] | None, dropout: float
) -> Decoder | Hypercolumn:
    """Behind the maps of `levels`, from fine to coarse. Raises ValueError for widths that do not fit."""
    if kind != "hypercolumn":
        given = _widths(levels[1:], kind) if widths is None else list(widths)
        return Decoder(levels, kind, given, dropout)
    if widths is not None:
        raise ValueError(
            f"widths is {list(widths)}, but the decoder 'hypercolumn' has no steps: leave widths out."
        )
    return Hypercolumn(levels[1:] if stem == "inflate" else levels, dropout)


def _widths(levels: Sequence[SkipLevel], decoder: str) -> list[int]:
    """W of every step, from coarse to fine, as the listings and the released code have them."""
    if decoder == "released":
        return [*RELEASED_WIDTHS, *[RELEASED_WIDTHS[-1]] * len(levels)][: len(levels)]
    met = [level.channels for level in reversed(levels[:-1])]
    return [*met, levels[0].channels]


def _report_new_layers(net: InflatedUNet) -> None:
    """Rows for what `inflate` did not make, and shapes of what was made in another shape since."""
    state = net.state_dict()
    rows = [
        row
        if not row.target or row.shape_3d == tuple(state[row.target].shape)
        else replace(row, shape_3d=tuple(state[row.target].shape))
        for row in net.report.rows
    ]
    told = {row.target for row in rows}
    rows += [
        TensorFate(name, "re-initialised", None, tuple(tensor.shape), name, "new layer")
        for name, tensor in state.items()
        if name not in told
    ]
    net.report.rows[:] = rows
