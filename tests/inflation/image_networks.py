"""Small image networks and clouds that the tests of inflation share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import pointlift as pl


def randomise_norms(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights, biases and running statistics of every batch normalisation drawn,
    so that none of them can be lost unnoticed.
    """
    g = torch.Generator().manual_seed(seed)
    for m in model.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            with torch.no_grad():
                m.weight.uniform_(0.6, 1.4, generator=g)
                m.bias.normal_(0, 0.2, generator=g)
                m.running_mean.normal_(0, 0.3, generator=g)
                m.running_var.uniform_(0.5, 1.5, generator=g)
    return model


def plane(picture: Tensor, axis: str = "z") -> pl.SparseTensor:
    """A picture (B, C, H, W) as a plane of voxels at 0 of `axis`:
    rows along the first of the other two axes, columns along the second.
    """
    b, c, h, w = picture.shape
    batch, row, column = torch.meshgrid(torch.arange(b), torch.arange(h), torch.arange(w), indexing="ij")
    columns = {"x": (0, row, column), "y": (row, 0, column), "z": (row, column, 0)}[axis]
    coords = torch.stack(
        [batch, *(torch.zeros_like(row) if isinstance(v, int) else v for v in columns)], -1
    ).reshape(-1, 4)
    return pl.SparseTensor(picture.permute(0, 2, 3, 1).reshape(-1, c), coords.to(torch.int32))


def picture_of(voxels: pl.SparseTensor, axis: str = "z") -> Tensor:
    """(B, C, H, W): what `plane` made, back again."""
    return voxels.dense().squeeze(2 + "xyz".index(axis))


def clouds(count: int = 2, points: int = 120, seed: int = 0) -> pl.PointBatch:
    g = torch.Generator().manual_seed(seed)
    return pl.PointBatch.from_list([torch.rand(points, 3, generator=g) for _ in range(count)])


def voxels(count: int = 2, points: int = 120, seed: int = 0) -> pl.SparseTensor:
    return pl.voxelize(clouds(count, points, seed), 0.1, origin="cloud")


class FixedShortcut(nn.Conv2d):
    """Every second pixel, new channels zero; never trained."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__(c_in, c_out, 1, 2, bias=False)
        with torch.no_grad():
            self.weight.zero_()
            self.weight[:c_in, :, 0, 0] = torch.eye(c_in)
        self.weight.requires_grad_(False)


class Block(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int = 1, fixed: bool = False):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or c_in != c_out:
            self.shortcut = (
                FixedShortcut(c_in, c_out) if fixed else nn.Conv2d(c_in, c_out, 1, stride, bias=False)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += self.shortcut(x)
        return self.relu(y)


class TinyResNet(nn.Module):
    """Three stages of one block; `gate` is a parameter of the network and of no layer."""

    def __init__(self, fixed: bool = False, gate: bool = False):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu = nn.ReLU()
        self.layer1 = nn.Sequential(Block(8, 8))
        self.layer2 = nn.Sequential(Block(8, 16, 2, fixed))
        self.layer3 = nn.Sequential(Block(16, 24, 2, fixed))
        self.gate = nn.Parameter(torch.rand(24, generator=torch.Generator().manual_seed(3))) if gate else None
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(24, 10)

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x))))))
        return x if self.gate is None else x * self.gate.reshape(1, -1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.forward_features(x)).flatten(1))


def tiny(seed: int = 0, fixed: bool = False, gate: bool = False) -> TinyResNet:
    torch.manual_seed(seed)
    return randomise_norms(TinyResNet(fixed, gate), seed)  # type: ignore[return-value]


def relative(a: Tensor, b: Tensor) -> float:
    """Largest difference in units of the largest value of b."""
    assert a.shape == b.shape, (a.shape, b.shape)
    return float((a - b).abs().max() / b.abs().max())


def small_picture(model: nn.Module) -> nn.Module:
    """Let inflation look at `model` on 64 x 64 pixels, which is quicker than on timm's 224 x 224."""
    model.pretrained_cfg = {"input_size": (3, 64, 64)}  # type: ignore[assignment]
    return model
