"""Inheritance and exploration (Huang et al., CVPR 2021), one of PointCMT's baselines: the student's feature
is cut into two halves, of which one learns what the teacher knows and the other what it does not.

    stage 0    E, D <- auto-encoder of the teacher's features:  min |D(E(t)) - t|^2,  frozen afterwards
    training   L_inherit <-   |u(E(t)) - u(A(f_1))|^2
               L_explore <- - |u(E(t)) - u(B(f_2))|^2           f = (f_1, f_2),  u(x) = x / |x|
               L_KD      <- L_inherit + L_explore
    mutual     two students S, S' of one kind and different weights learn so side by side, each also from what
               the other answers: L_mutual <- D_KL(softmax(Cls'(f')) || softmax(Cls(f))), the first a constant

PointCMT names the method and gives none of its sizes (facts 4.8). As I know it: the original works on feature
maps, with convolutions where there are fully connected layers here; an auto-encoder that was trained
beforehand makes a compact code of the teacher's map, encoders of the student's halves are trained with the
student, and distances are taken between normalised codes. The code is as wide as half of the student's
feature; every encoder and decoder is Linear, ReLU, Linear.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["FeatureCode", "InheritanceExploration", "fit_feature_code"]

# of the auto-encoder, whose training the original does not describe beyond its loss
STEPS, BATCH, RATE = 500, 128, 2e-3


class FeatureCode(nn.Module):
    """An auto-encoder of vectors: `encode`, (B, width) -> (B, code), and back.

    width, code: at least 1. explained: share of the features' variance that it restored
    at the end of `fit_feature_code`.
    """

    def __init__(self, width: int, code: int) -> None:
        super().__init__()
        self.encoder, self.decoder = _encoder(width, width, code), _encoder(code, width, width)
        self.width, self.code, self.explained = width, code, float("nan")

    def encode(self, features: Tensor) -> Tensor:
        """(B, code)."""
        out: Tensor = self.encoder(features)
        return out

    def forward(self, features: Tensor) -> Tensor:
        """(B, width): the features, restored of their codes."""
        out: Tensor = self.decoder(self.encode(features))
        return out


def fit_feature_code(
    features: npt.NDArray[np.float32], code: int, seed: int = 0, steps: int = STEPS
) -> FeatureCode:
    """The auto-encoder of a teacher's features (n, D), frozen, on the CPU; Adam, `steps` steps of up to 128
    rows, mean squared error.

    features: in memory or memory-mapped; of a memory-mapped file only the rows of a step are read.
    seed: of weights and order. Raises ValueError for no features, and for a code narrower than 1 or wider
    than D.
    """
    n, width = features.shape
    if n < 1 or not 1 <= code <= width:
        raise ValueError(
            f"An auto-encoder of {n} features of {width} channels cannot make codes of {code}: expected at "
            f"least one feature, and codes of 1 to {width}; use a smaller student feature."
        )
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        net = FeatureCode(width, code)
        optimizer = torch.optim.Adam(net.parameters(), RATE)
        for _ in range(steps):
            rows = np.sort(rng.choice(n, min(n, BATCH), replace=False))
            seen = torch.from_numpy(np.array(features[rows], dtype=np.float32))
            optimizer.zero_grad()
            functional.mse_loss(net(seen), seen).backward()
            optimizer.step()
    net.requires_grad_(False).eval()
    net.explained = _explained(net, features)
    return net


class InheritanceExploration(nn.Module):
    """L_KD of the module's text for a student feature of `width` channels and a teacher's `code`, which is
    frozen here; the two encoders of the student's halves learn.

    Raises ValueError unless the code is as wide as the first half of the feature (width // 2).
    """

    def __init__(self, width: int, code: FeatureCode) -> None:
        super().__init__()
        half = width // 2
        if code.code != half:
            raise ValueError(
                f"huang takes codes as wide as half the student's feature of {width} channels, {half}, "
                f"got {code.code}: fit the auto-encoder for this student."
            )
        self.code = code.requires_grad_(False)
        self.split = half
        self.inherit = _encoder(half, half, half)
        self.explore = _encoder(width - half, half, half)

    def forward(self, points: Tensor, images: Tensor) -> Tensor:
        """The mean over the batch, of F_pts (B, width) and F_img (B, D)."""
        known = functional.normalize(self.code.encode(images), dim=1)
        inherited = functional.normalize(self.inherit(points[:, : self.split]), dim=1)
        explored = functional.normalize(self.explore(points[:, self.split :]), dim=1)
        return ((known - inherited).square().sum(1) - (known - explored).square().sum(1)).mean()

    def learned(self) -> list[nn.Parameter]:
        """What trains with the student."""
        return [*self.inherit.parameters(), *self.explore.parameters()]


def _encoder(width: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, out))


@torch.no_grad()
def _explained(net: FeatureCode, features: npt.NDArray[np.float32]) -> float:
    """1 - the mean squared error over the variance; NaN where all features are the same."""
    n, width = features.shape
    total, square, wrong = np.zeros(width), 0.0, 0.0
    for start in range(0, n, 4096):
        piece = torch.from_numpy(np.array(features[start : start + 4096], dtype=np.float32))
        wrong += float((net(piece) - piece).double().square().sum())
        total += piece.double().sum(0).numpy()
        square += float(piece.double().square().sum())
    variance = square - float((total**2).sum()) / n
    return 1 - wrong / variance if variance > 1e-12 * max(square, 1.0) else float("nan")
