"""Contrastive Representation Distillation (Tian, Krishnan and Isola, ICLR 2020), equations 10 to 19.

    u, v = normalize(linear(f_3D)), normalize(linear(f_2D))              128 channels each
    h(a, b) = exp(a . b / T) / Z                                         Z set in the first step
    for both sides, against the memory of the other one:
        - log h(positive) / (h(positive) + N / M)
        - sum over N negatives  log (N / M) / (h(negative) + N / M)      a mean over the batch
    memory[i] <- normalize(m memory[i] + (1 - m) the new embedding)      for the frames of the step

M is the number of training frames, N the number of negatives, which are drawn uniformly, with repetition,
from all other frames.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from pointlift.system.distributed import gathered

__all__ = ["RepresentationContrast", "contrast_terms", "other_frames"]

EPS = 1e-7


def other_frames(frames: Tensor, count: int, total: int, generator: torch.Generator | None = None) -> Tensor:
    """(B, count) int64 numbers below `total`, uniform over all but the row's own of frames (B,).

    A number outside 0 .. total - 1, that of a frame without memory, excludes none.
    """
    own = frames[:, None].cpu()
    known = (own >= 0) & (own < total)
    share = torch.rand(len(frames), count, generator=generator, dtype=torch.float64)
    drawn = (share * (total - known.long())).long()
    return (drawn + (known & (drawn >= own)).long()).to(frames.device)


def contrast_terms(positive: Tensor, negative: Tensor, total: int) -> Tensor:
    """The loss of one side: positive (B,) and negative (B, N) values of h, with M = total; a mean over B."""
    share = negative.shape[1] / total
    found = torch.log(positive / (positive + share + EPS))
    refused = torch.log(share / (negative + share + EPS)).sum(1)
    return -(found + refused).mean()


class RepresentationContrast(nn.Module):
    """The embeddings, the memories and the loss.

    Args:
        width, teacher_width: of the features of student and teacher.
        frames: M, how many there are to learn from.
        dim: of the embeddings. negatives: N. momentum: m. temperature: T.

    The memories, and the two constants Z once they are set, are part of last.ckpt. Raises ValueError for
    fewer than two frames.
    """

    points_memory: Tensor
    pixels_memory: Tensor
    constants: Tensor

    def __init__(
        self,
        width: int,
        teacher_width: int,
        frames: int,
        dim: int = 128,
        negatives: int = 16384,
        momentum: float = 0.5,
        temperature: float = 0.07,
    ) -> None:
        super().__init__()
        if frames < 2:
            raise ValueError(
                f"CRD contrasts a frame with others, got {frames} frame to learn from: take 2 or more."
            )
        self.frames, self.negatives = frames, negatives
        self.momentum, self.temperature = momentum, temperature
        self.embed_points, self.embed_pixels = nn.Linear(width, dim), nn.Linear(teacher_width, dim)
        bound = 1 / math.sqrt(dim / 3)
        for name in ("points_memory", "pixels_memory"):
            self.register_buffer(name, torch.empty(frames, dim).uniform_(-bound, bound))
        self.register_buffer("constants", torch.full((2,), -1.0))  # Z of the two sides; -1: not set yet

    def embed(self, points: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """u, v (B, dim) of unit length."""
        return (
            functional.normalize(self.embed_points(points).float(), dim=1),
            functional.normalize(self.embed_pixels(pixels).float(), dim=1),
        )

    def forward(self, points: Tensor, pixels: Tensor, frames: Tensor) -> Tensor:
        """The loss of features (B, width) and (B, teacher_width) of the frames (B,), against the memories
        before they take these in.
        """
        u, v = self.embed(points, pixels)
        others = other_frames(frames, self.negatives, self.frames)
        scores = [
            self._scores(u, self.pixels_memory[frames], self.pixels_memory[others]),
            self._scores(v, self.points_memory[frames], self.points_memory[others]),
        ]
        self._set_constants(scores)
        loss = self._loss(scores)
        self.remember(u.detach(), v.detach(), frames)
        return loss

    def held_out(self, points: Tensor, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """The loss of frames that have no memory: the other side's embedding is the positive; nothing is
        remembered.
        """
        u, v = self.embed(points, pixels)
        unknown = torch.full((len(u),), -1, device=u.device)
        others = other_frames(unknown, self.negatives, self.frames, generator)
        scores = [
            self._scores(u, v, self.pixels_memory[others]),
            self._scores(v, u, self.points_memory[others]),
        ]
        return self._loss(scores)

    def _scores(self, anchor: Tensor, positive: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
        """exp(a . b / T): (B,) and (B, N)."""
        near = torch.exp((anchor * positive).sum(1) / self.temperature)
        far = torch.exp(torch.einsum("bd,bnd->bn", anchor, negatives) / self.temperature)
        return near, far

    def _loss(self, scores: list[tuple[Tensor, Tensor]]) -> Tensor:
        constants = torch.where(self.constants > 0, self.constants, float(self.frames))
        terms = [contrast_terms(near / z, far / z, self.frames) for (near, far), z in zip(scores, constants)]
        return torch.stack(terms).sum()

    @torch.no_grad()
    def _set_constants(self, scores: list[tuple[Tensor, Tensor]]) -> None:
        """Z: the mean score of the first step times M, over all processes."""
        if bool((self.constants > 0).all()):
            return
        for side, (near, far) in enumerate(scores):
            own = torch.cat([near[:, None], far], dim=1).mean()[None]
            self.constants[side] = gathered(own)[0].mean() * self.frames

    @torch.no_grad()
    def remember(self, u: Tensor, v: Tensor, frames: Tensor) -> None:
        """Take embeddings (B, dim) of the frames (B,), of all processes, into the memories."""
        rows = gathered(frames)[0]
        for memory, new in ((self.points_memory, u), (self.pixels_memory, v)):
            mixed = self.momentum * memory[rows] + (1 - self.momentum) * gathered(new)[0]
            memory[rows] = functional.normalize(mixed, dim=1)
