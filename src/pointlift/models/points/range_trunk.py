"""An image network as the trunk of range images: its maps at all scales, and an input layer for other
channels than a picture's.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any, Literal, get_args

import torch
from timm.models.hrnet import HighResolutionNet
from torch import Tensor, nn

from pointlift.inflation import InflationError, InflationReport, TensorFate
from pointlift.inflation.trace import Structure, structure_of
from pointlift.inflation.trial import map_modules

__all__ = ["InputStart", "RangeTrunk"]

InputStart = Literal["inflated", "new"]
TRIAL_SIZE = (64, 256)
# behind the last maps of HRNet's four branches, for classification alone
_HRNET_HEAD = ("incre_modules", "downsamp_modules", "final_layer", "global_pool", "head_drop", "classifier")


class RangeTrunk(nn.Module):
    """A copy of an image network that gives a map for every scale, finest first.

    HRNet gives its four branches, as HRNetV2 does for segmentation (Sun et al., 2019). Of other networks it
    is the last map of every scale among those that timm lists, or of the stages that are found by watching
    the network run. Layers behind the last of these maps are taken out.

    Args:
        image_model: the network, (B, 3, H, W) to logits.
        channels: of the range images.
        start: the first convolution. "inflated": its filters summed over colours and shared out among the
            channels, so that where these are all equal it answers as to a grey picture; "new": drawn anew.
        keep_rows: strides of the stem and of what comes before the first map go along the rows only, so that
            pictures of few rows keep them, as RangeNet++'s and SqueezeSeg's networks do.

    Attributes:
        input_layer: dotted name of the first convolution.
        widths: channels of the maps.
        report: what became of every tensor of the image network.

    Raises:
        InflationError: a network without maps, one of fixed picture size, or one whose picture goes into
            several layers.
        ValueError: an unknown start.
    """

    def __init__(
        self,
        image_model: nn.Module,
        channels: int,
        start: InputStart = "inflated",
        keep_rows: bool = False,
    ) -> None:
        super().__init__()
        if start not in get_args(InputStart):
            raise ValueError(f"start must be one of {', '.join(get_args(InputStart))}, got {start!r}.")
        self.report = InflationReport()
        self.network = _copy_of(image_model)
        structure = structure_of(self.network)
        if structure.branching_stem is not None:
            raise InflationError(
                f"{structure.first_conv} and {structure.branching_stem} both look at the picture, so that "
                "there is no single input layer for range images: choose another image network."
            )
        self.input_layer = f"network.{structure.first_conv}"
        if keep_rows:
            _keep_rows(self.network, structure)
        self._adapt_input(structure.first_conv, channels, start)
        self.places: list[str] = []
        if isinstance(self.network, HighResolutionNet):
            for name in _HRNET_HEAD:
                setattr(self.network, name, None)
        else:
            self.places = map_modules(self.network, structure)
        self.widths = self._try(channels)
        if self.places:
            _cut(self.network, structure, self.places[-1])
        self._fill_report(image_model)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, channels, H, W) to maps (B, C_i, H_i, W_i), finest first."""
        if isinstance(self.network, HighResolutionNet):
            x = self.network.act1(self.network.bn1(self.network.conv1(images)))
            x = self.network.act2(self.network.bn2(self.network.conv2(x)))
            branches: list[Tensor] = self.network.stages(x)
            return branches
        found: dict[str, Any] = {}

        def keep(name: str, module: nn.Module, args: Any, out: Any) -> None:
            found[name] = out

        handles = [
            self.network.get_submodule(name).register_forward_hook(partial(keep, name))
            for name in self.places
        ]
        try:
            self.network(images)
        finally:
            for handle in handles:
                handle.remove()
        return [found[name] for name in self.places if name in found]

    def _try(self, channels: int) -> list[int]:
        """Widths of the maps on a small empty picture; leaves in `places` the last module of every scale."""
        picture = torch.zeros(1, channels, *TRIAL_SIZE, device=next(self.network.parameters()).device)
        modes = {m: m.training for m in self.network.modules()}
        self.network.eval()
        try:
            with torch.no_grad():
                maps = self(picture)
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            raise InflationError(
                f"The image network does not run on range images ({type(error).__name__}: {error}): choose a "
                "convolutional one, which takes pictures of any size."
            ) from error
        finally:
            for module, mode in modes.items():
                module.training = mode
        if not self.places:
            return [int(m.shape[1]) for m in maps]
        last = {
            m.shape[2:]: (place, int(m.shape[1]))
            for place, m in zip(self.places, maps)
            if isinstance(m, Tensor) and m.ndim == 4 and m.shape[2] > 1
        }
        if not last:
            raise InflationError(
                "The image network has no maps (B, C, H, W) of several scales: choose a convolutional one, "
                "such as hrnet_w18."
            )
        self.places = [place for place, _ in last.values()]
        return [width for _, width in last.values()]

    def _adapt_input(self, name: str, channels: int, start: InputStart) -> None:
        old = self.network.get_submodule(name)
        assert isinstance(old, nn.Conv2d)
        if old.groups != 1:
            raise InflationError(f"{name} works in groups, and cannot be given {channels} channels.")
        padding: Any = old.padding
        new = type(old)(
            channels,
            old.out_channels,
            old.kernel_size,  # type: ignore[arg-type]
            old.stride,  # type: ignore[arg-type]
            padding,
            old.dilation,  # type: ignore[arg-type]
            bias=old.bias is not None,
        ).to(old.weight.device)
        if start == "inflated":
            with torch.no_grad():
                shared = old.weight.sum(dim=1, keepdim=True) / channels
                new.weight.copy_(shared.expand(-1, channels, -1, -1))
                if old.bias is not None and new.bias is not None:
                    new.bias.copy_(old.bias)
        parent, _, leaf = name.rpartition(".")
        setattr(self.network.get_submodule(parent), leaf, new)
        how = "summed over colours, shared out" if start == "inflated" else "drawn anew"
        self.report.notes.append(f"{name}: {old.in_channels} input channels became {channels}, {how}")

    def _fill_report(self, image_model: nn.Module) -> None:
        kept = self.network.state_dict()
        for name, tensor in image_model.state_dict().items():
            shape = tuple(tensor.shape)
            if name not in kept:
                self.report.rows.append(TensorFate(name, "dropped", shape, None, "", "behind the last map"))
                continue
            same = tuple(kept[name].shape) == shape
            note = "" if same else "other input channels"
            fate = "copied" if same else "inflated"
            if not same and "drawn anew" in self.report.notes[0]:
                fate = "re-initialised"
            self.report.rows.append(TensorFate(name, fate, shape, tuple(kept[name].shape), name, note))


def _copy_of(image_model: nn.Module) -> nn.Module:
    """A copy in float32, all of it trainable where all of the network was frozen."""
    copied = copy.deepcopy(image_model).to(torch.float32)
    if not any(p.requires_grad for p in image_model.parameters()):
        copied.requires_grad_(True)
    return copied


def _keep_rows(network: nn.Module, structure: Structure) -> None:
    """Strides of convolutions and pools from the picture to the first stage become (1, stride)."""
    stages = set(structure.stages)
    for step in structure.steps:
        if any(step.name == s or step.name.startswith(f"{s}.") for s in stages):
            return
        module: Any = network.get_submodule(step.name)
        if isinstance(module, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)):
            stride = module.stride
            module.stride = (1, stride if isinstance(stride, int) else stride[1])


def _cut(network: nn.Module, structure: Structure, place: str) -> None:
    """Leaves that run behind the module called `place`, and nowhere before, become identities."""
    names = [step.name for step in structure.steps]
    inside = [i for i, name in enumerate(names) if name == place or name.startswith(f"{place}.")]
    before = set(names[: inside[-1] + 1])
    for name in dict.fromkeys(names[inside[-1] + 1 :]):
        parent, _, leaf = name.rpartition(".")
        if name not in before:
            setattr(network.get_submodule(parent), leaf, nn.Identity())
