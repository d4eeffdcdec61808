"""How often a scene goes through its network, and what that costs.

one pass (the default)       every point gets the answer of its voxel
fragments                    one point of every voxel at a time; every point is answered in exactly one pass
test-time augmentation       N turns about z; the mean over them of the softmax is the answer

    for every turn
        for every fragment of the turned scene, or for the whole of it
            softmax(network) of its points
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pointlift.data.sample import Sample
from pointlift.data.scene_features import FEATURES
from pointlift.data.transforms import take_points
from pointlift.evaluate.fragments import Fragment, Variant, answers_of, fragments, variants
from pointlift.system.durations import in_words

__all__ = ["CostLines", "Passes", "mean_probabilities", "passes_of", "pieces", "shown"]

Rows = npt.NDArray[np.int64]
DIRECTIONS = ("xyz", "normals")  # features that turn with the scene


@dataclass(frozen=True)
class Passes:
    """How often a scene is seen.

    Attributes:
        fragments: whether the points of a voxel are seen one at a time, in fragments of the scene.
        tta: turns about z, evenly spaced, the scene as it is among them; 1 is no test-time augmentation.

    Raises ValueError for fewer than one turn.
    """

    fragments: bool = False
    tta: int = 1

    def __post_init__(self) -> None:
        if self.tta < 1:
            raise ValueError(f"--tta is {self.tta}, at least 1 is expected (1: no test-time augmentation)")

    @property
    def once(self) -> bool:
        """Whether a scene is seen once, as it is."""
        return not self.fragments and self.tta == 1

    @property
    def turns(self) -> tuple[Variant, ...]:
        angles = [2 * math.pi * k / self.tta for k in range(self.tta)]
        return tuple(variants((1.0,), ((False, False),), angles))

    def describe(self, takes: str) -> str:
        """In words, of a network that takes "voxels" or "points"."""
        if self.once:
            every = "gets the answer of its voxel" if takes == "voxels" else "is answered by itself"
            return f"one forward pass a scene, every point {every}"
        seen = "the scene"
        if self.fragments:
            seen = "fragments with one point of every voxel, every point answered in exactly one of them"
        return seen if self.tta == 1 else f"{seen}, mean softmax over {self.tta} rotations about z"


def shown(sample: Sample, turn: Variant, features: Sequence[str]) -> Sample:
    """A prepared scene as it is turned, with those of its `features` that are directions."""
    turned = turn.apply(sample.xyz)
    values, start = sample.features, 0
    for name in features:
        if name in DIRECTIONS and values is not None:
            values = turn.apply_features(values, start)
        start += FEATURES[name]
    return replace(sample, xyz=turned, features=values)


def pieces(sample: Sample, passes: Passes, voxel_size: float) -> Iterator[Fragment]:
    """What of a turned scene is seen together: fragments, or one that is the whole."""
    if passes.fragments:
        yield from fragments(sample.xyz, voxel_size)
    else:
        yield Fragment(np.arange(len(sample)), np.ones(len(sample), dtype=bool))


def mean_probabilities(
    sample: Sample,
    passes: Passes,
    features: Sequence[str],
    voxel_size: float,
    run: Callable[[Sample], Iterator[tuple[Rows, Tensor]]],
    told: Callable[[], None] = lambda: None,
) -> npt.NDArray[np.float32]:
    """(N, C): the mean over the turns of the softmax of a prepared scene's points.

    Args:
        sample: the scene, which has points.
        passes: how often it is seen.
        features: what the columns of its features are.
        voxel_size: the network's.
        run: logits of a scene, with their rows, one pass after another.
        told: called after every pass.
    """
    total: npt.NDArray[np.float32] | None = None
    for turn in passes.turns:
        scene = shown(sample, turn, features)
        given = (
            (piece, _softmax(take_points(scene, piece.rows), run, told))
            for piece in pieces(scene, passes, voxel_size)
        )
        found = answers_of(len(scene), given)
        total = found if total is None else total + found
    assert total is not None
    return total / np.float32(passes.tta)


def _softmax(
    scene: Sample,
    run: Callable[[Sample], Iterator[tuple[Rows, Tensor]]],
    told: Callable[[], None],
) -> npt.NDArray[np.float32]:
    """(n, C) of the points of a piece."""
    found: npt.NDArray[np.float32] | None = None
    for rows, logits in run(scene):
        values = logits.softmax(dim=1).cpu().numpy()
        if found is None:
            found = np.zeros((len(scene), values.shape[1]), dtype=np.float32)
        found[rows] = values
        told()
    assert found is not None
    return found


def passes_of(
    sample: Sample,
    passes: Passes,
    features: Sequence[str],
    voxel_size: float,
    tiles_of: Callable[[npt.NDArray[np.float32]], int],
) -> list[int]:
    """How many passes every turn of a prepared scene takes: its fragments, and the tiles of each.

    tiles_of: in how many tiles points (n, 3) are seen.
    """
    counts = []
    for turn in passes.turns:
        scene = shown(sample, turn, features)
        counts.append(sum(tiles_of(scene.xyz[piece.rows]) for piece in pieces(scene, passes, voxel_size)))
    return counts


class CostLines:
    """Says on stderr what scenes cost: the number of passes before the first of them, and the time that is
    left after the first scene, or after the first pass of a single one.

    Args:
        passes: of all scenes.
        counts: for each scene how many passes every turn of it takes.
        name: of what it is said, "" for nothing.

    Attributes: total, done: passes.
    """

    def __init__(self, passes: Passes, counts: Sequence[Sequence[int]], name: str = "") -> None:
        self.total, self.done = sum(map(sum, counts)), 0
        self._name = f"{name}: " if name else ""
        self._mark = sum(counts[0]) if len(counts) > 1 else 1
        factors = [f"{len(counts)} scene{'s' * (len(counts) != 1)}"]
        every = [count for scene in counts for count in scene] or [0]
        low, high = min(every), max(every)
        if passes.fragments or high > 1:  # of a scene in tiles, the fragments of all tiles
            what = "fragments" if passes.fragments else "tiles"
            factors.append(f"{low if low == high else f'{low} to {high}'} {what}")
        if passes.tta > 1:
            factors.append(f"{passes.tta} rotations")
        self._say(f"{' × '.join(factors)} = {self.total:,} forward passes")
        self._started = time.monotonic()

    def told(self) -> None:
        """One more pass is done."""
        self.done += 1
        if self.done != self._mark or self.done == self.total:
            return
        took = time.monotonic() - self._started
        left = in_words(took / self.done * (self.total - self.done))
        self._say(f"{self.done:,} of {self.total:,} forward passes took {took:.1f} s, about {left} left")

    def _say(self, line: str) -> None:
        print(f"pointlift: {self._name}{line}", file=sys.stderr, flush=True)
