"""The cross-modal point generator (PointCMT, section 3.3):
from a feature to a cloud, and its training, stage II of algorithm 1.

    for every batch of training clouds P, with the frozen image network's features F_img of them:
        P_img <- CMPG(F_img)                                       (B, D) -> (B, N, 3)
        L_EMD <- min over bijections phi of |p - phi(p)|           eq. 4, between P and P_img
        Adam on CMPG

Where text and released code differ (facts 4.4, 4.5): the text's generator is a three-layer MLP, of hidden
widths that it does not state; the code's is one linear layer behind dropout ("linear", facts T35). Eq. 4 sums
over the points, the code takes their mean. The text compares the clouds as they are ("none", the
default); the code first scales both into a box of side 1 and meant to centre them, but shifts every cloud by
half its own lower corner ("released", facts T36), so that two equal clouds in different places are at a
distance; "centred" is what it meant, in which size and place count for nothing. The auction of the code may
end without a bijection; the one here always has one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from pointlift.core.point_batch import PointBatch
from pointlift.methods.method import Method
from pointlift.methods.optim import OptimConfig
from pointlift.methods.pointcmt.taught_clouds import FEATURES
from pointlift.ops.distances import earth_movers_distance
from pointlift.weights.archive import read_kind, write_archive

__all__ = [
    "CloudDistance",
    "GeneratorError",
    "GeneratorTraining",
    "PointGenerator",
    "fit_box",
    "load_generator",
    "pick_points",
    "save_generator",
]

Box = Literal["centred", "released", "none"]
Reduction = Literal["mean", "sum"]
Kind = Literal["mlp", "linear"]


class GeneratorError(ValueError):
    """A file that holds no point generator, or another one than is needed; the message is one sentence."""


class PointGenerator(nn.Module):
    """CMPG: (B, D) features to (B, N, 3) clouds.

    width: D. n_points: N. kind: "mlp", three fully connected layers with ReLU between them (section 4.1:
    "CMPG consists of three-layer MLP"), or "linear", dropout of 0.5 and one layer without bias, as the
    released code has it: 1,572,864 parameters from 512 to 1,024 points. hidden: widths between the MLP's
    layers, which the paper leaves open; 1,024 twice, as decoders of point clouds commonly have.
    seed: of the weights. Raises ValueError for widths below 1 or an unknown kind.
    """

    def __init__(
        self,
        width: int = 512,
        n_points: int = 1024,
        kind: Kind = "mlp",
        hidden: Sequence[int] = (1024, 1024),
        seed: int = 0,
    ) -> None:
        super().__init__()
        if kind not in get_args(Kind):
            raise ValueError(
                f"The point generator's kind is {kind!r}, expected one of {', '.join(get_args(Kind))}."
            )
        if min(width, n_points, *hidden) < 1 or len(hidden) != 2:
            raise ValueError(
                f"The point generator got width={width}, n_points={n_points} and hidden={list(hidden)}, "
                "expected positive numbers and two hidden widths (three layers)."
            )
        self.width, self.n_points, self.kind, self.hidden = width, n_points, kind, tuple(hidden)
        out = 3 * n_points
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if kind == "linear":
                self.layers = nn.Sequential(nn.Dropout(0.5), nn.Linear(width, out, bias=False))
            else:
                first, second = hidden
                self.layers = nn.Sequential(
                    nn.Linear(width, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(),
                    nn.Linear(second, out)
                )  # fmt: skip

    @property
    def arguments(self) -> dict[str, Any]:
        """JSON-able keyword arguments that make a generator of this shape."""
        return {
            "width": self.width,
            "n_points": self.n_points,
            "kind": self.kind,
            "hidden": list(self.hidden),
        }

    def forward(self, features: Tensor) -> Tensor:
        """(B, n_points, 3) of (B, width). Raises ValueError for features of another width."""
        if features.ndim != 2 or features.shape[1] != self.width:
            raise ValueError(
                f"The point generator takes features of shape (B, {self.width}), got {tuple(features.shape)}."
            )
        points: Tensor = self.layers(features)
        return points.reshape(len(features), self.n_points, 3)


def fit_box(cloud: Tensor, box: Box = "centred") -> Tensor:
    """(B, N, 3) scaled so that the longest side of each cloud's bounding box is 1, and moved; differentiable.

    "centred": the middle of the box at the origin. "released": as the released code, which is half of the
    lower corner (in units of the longest side) away from there (facts T36). "none": as it is, which is what
    eqs. 4 and 5 say. A cloud of one repeated point ends as a cloud of size 0.
    """
    if box == "none":
        return cloud
    low, high = cloud.amin(1, keepdim=True), cloud.amax(1, keepdim=True)
    side = high - low
    longest = side.amax(2, keepdim=True)
    scale = _longest_side(cloud).reciprocal()
    if box == "centred":
        return (cloud - 0.5 * (low + high)) * scale
    if box != "released":
        raise ValueError(f"box is {box!r}, expected one of {', '.join(get_args(Box))}.")
    return cloud * scale - 0.5 - scale * 0.5 * (low - (longest - side))


@dataclass(frozen=True)
class CloudDistance:
    """L_EMD of eqs. 4 and 5, between clouds of equally many points.

    Attributes:
        box: what happens to both clouds before, see `fit_box`.
        reduction: over the points: "mean", as the released loss, or "sum", as the equations are written. The
            weight alpha = 30 belongs to the mean: matched points of two clouds of side 1 are 0.02 to 0.15
            apart, so that 30 times their mean is of the size of a cross entropy, while 30 times the sum
            over 1,024 points would be a thousand times that and leave the classes no say.
        matching: "auction" (a bijection whose mean distance is within `epsilon` of the best one's) or "exact"
            (the Hungarian method; slow beyond some hundred points).
        epsilon: in sides of the box, or without one in longest sides of the box around both clouds, so that
            it means the same in all units; the released code's auction takes 0.05.
    """

    box: Box = "none"
    reduction: Reduction = "mean"
    matching: Literal["auction", "exact"] = "auction"
    epsilon: float = 0.01

    def __post_init__(self) -> None:
        for name, kind in (("box", Box), ("reduction", Reduction), ("matching", Literal["auction", "exact"])):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(
                    f"The distance of clouds: {name} is {getattr(self, name)!r}, expected one of "
                    f"{', '.join(get_args(kind))}."
                )
        if not 0 < self.epsilon < 1:
            raise ValueError(
                f"The distance of clouds: epsilon is {self.epsilon}, expected a number between 0 and 1."
            )

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """(B,) of (B, N, 3) and (B, N, 3), with a gradient to both at the fixed bijection,
        in float32 at least.

        Raises ValueError for clouds of different sizes.
        """
        if a.shape != b.shape or a.ndim != 3 or a.shape[2] != 3:
            raise ValueError(
                "The distance of clouds needs two of the same shape (B, N, 3), "
                f"got {tuple(a.shape)} and {tuple(b.shape)}."
            )
        a, b = (x.float() if x.dtype in (torch.float16, torch.bfloat16) else x for x in (a, b))
        a, b = fit_box(a, self.box), fit_box(b, self.box)
        around = torch.cat([a, b], 1).detach() if self.box == "none" and a.shape[1] else None
        size = torch.ones((), dtype=a.dtype, device=a.device) if around is None else _longest_side(around)
        found = earth_movers_distance(a / size, b / size, method=self.matching, epsilon=self.epsilon)
        distance = found.distance * size.flatten()
        return distance * a.shape[1] if self.reduction == "sum" else distance


def _longest_side(cloud: Tensor) -> Tensor:
    """(B, 1, 1): of the clouds' bounding boxes, 1 for clouds of no extent."""
    side = (cloud.amax(1, keepdim=True) - cloud.amin(1, keepdim=True)).amax(2, keepdim=True)
    return torch.where(side > 0, side, torch.ones_like(side))


def pick_points(cloud: PointBatch, n: int) -> Tensor:
    """(B, n, 3): n points of every cloud, spread evenly over the order they come in,
    which is random in training.

    All of them where a cloud has n; some are repeated where it has fewer.
    Raises ValueError for a cloud without points.
    """
    counts = cloud.offsets.diff()
    if bool((counts < 1).any()):
        raise ValueError("A cloud of the batch has no points, expected at least one: leave empty clouds out.")
    rows = torch.arange(n, device=counts.device) * counts[:, None] // n + cloud.offsets[:-1, None]
    return cloud.xyz[rows]


class GeneratorTraining(Method):
    """Stage II: trains `net`, a `PointGenerator`, to draw the training clouds from the teacher's features of
    them.

    Args:
        net: the generator.
        distance: L_EMD.
        loss_weight: what it is multiplied by: 1 in the paper, 30 in the released code,
            which matters to Adam's weight decay only.
        optim, seed, total_steps: of `Method`.

    Batches are `PointBatch` with extras["teacher_features"], whose clouds may be augmented: the features are
    those of the clouds as they are. Logged once per epoch: train_loss and val_loss, the mean distance without
    the weight.
    """

    def __init__(
        self,
        net: PointGenerator,
        distance: CloudDistance | None = None,
        loss_weight: float = 1.0,
        optim: OptimConfig | None = None,
        seed: int = 0,
        total_steps: int | None = None,
    ) -> None:
        super().__init__(net, "all", optim, seed, total_steps)
        if not 0 < loss_weight < float("inf"):
            raise ValueError(
                f"The point generator's loss_weight is {loss_weight}, expected a positive number."
            )
        self.distance, self.loss_scale = distance or CloudDistance(), loss_weight

    def distances(self, batch: PointBatch) -> Tensor:
        """(B,): L_EMD(P, CMPG(F_img))."""
        assert isinstance(self.net, PointGenerator)
        generated = self.net(batch.extras[FEATURES])
        self.finite(generated.detach().sum())
        return self.distance(generated, pick_points(batch, self.net.n_points))

    def losses(self, batch: PointBatch) -> dict[str, Tensor]:
        """The mean of the distances."""
        return {"loss": self.distances(batch).mean()}

    def evaluate(self, batch: PointBatch) -> None:
        self.val_loss.update(self.distances(batch).mean(), len(batch))


def save_generator(path: str | Path, generator: PointGenerator, facts: Mapping[str, Any]) -> Path:
    """Write the weights and what made them to `path`, a safetensors file that appears whole or not at all.
    facts: JSON.
    """
    return write_archive(
        path, "generator", {"arguments": generator.arguments, **facts}, generator.state_dict()
    )


def load_generator(path: str | Path) -> tuple[PointGenerator, dict[str, Any]]:
    """The generator in a file that `save_generator` wrote, frozen and in eval mode,
    and the facts that were written with it.

    Raises FileNotFoundError for a missing file, GeneratorError for one that is damaged or something else.
    """
    path = Path(path)
    archive = read_kind(
        path,
        "generator",
        GeneratorError,
        f"point generator at {path}: stage II writes model.safetensors into its folder (out/generator).",
        "is no point generator, or damaged ({}): use the file that stage II wrote.",
        "is no point generator: use the model.safetensors that stage II wrote (out/generator).",
    )
    tensors, facts = archive.tensors, archive.content or {}
    if not archive.intact():
        raise GeneratorError(f"{path} is damaged: the checksum of its weights is wrong; use another copy.")
    facts.pop("sha256", None)
    try:
        generator = PointGenerator(**facts.pop("arguments"))
        generator.load_state_dict(tensors)
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise GeneratorError(
            f"{path} is a damaged point generator ({type(error).__name__}: {reason}): use another copy."
        ) from None
    bad = [name for name, t in tensors.items() if not bool(torch.isfinite(t).all())]
    if bad:
        raise GeneratorError(
            f"{path}: {bad[0]} holds values that are no finite numbers, its training diverged: "
            "train it again."
        )
    generator.requires_grad_(False).eval()
    return generator, facts
