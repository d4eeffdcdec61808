"""FractalDB: image categories that are random iterated function systems (Kataoka et al., "Pre-training
without Natural Images", ACCV 2020).

A category is a set of affine maps; its pictures are the maps' attractor, drawn with perturbed parameters,
random 3x3 patches and flips (section 3 of the paper; facts 6). This file searches categories, reads and
writes the published csv files and renders one picture; ``fractal_images`` turns categories into datasets and
folders.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pointlift.data.procedural.fractals import fractal_render as kernels
from pointlift.system.atomic import atomic_write

Mode = Literal["point_gray", "patch_gray", "point_color", "patch_color"]

PUBLISHED_SIZE = 362
PUBLISHED_ITERATIONS = 200_000
TRAJECTORY_SEED = 100
_MAX_SEED = 2**63


@dataclass(frozen=True)
class FractalCategory:
    """``maps (m, 7) float64``: one row a, b, c, d, e, f, p per affine map,
    with ``x' = a x + b y + e`` and ``y' = c x + d y + f``.

    Raises ``ValueError`` if the array has another shape, is empty, holds NaN or infinity,
    or the probabilities do not sum to one.
    """

    maps: NDArray[np.float64]
    name: str = "00000"

    def __post_init__(self) -> None:
        maps = np.ascontiguousarray(self.maps, dtype=np.float64)
        if maps.ndim != 2 or maps.shape[1] != 7 or len(maps) == 0:
            raise ValueError(
                f"fractal category {self.name}: got maps of shape {maps.shape}, expected (m, 7) rows of a, "
                "b, c, d, e, f, p."
            )
        if not np.isfinite(maps).all():
            raise ValueError(
                f"fractal category {self.name}: maps hold NaN or infinite numbers; "
                "remove or correct that category."
            )
        if (maps[:, 6] < 0).any() or abs(maps[:, 6].sum() - 1.0) > 1e-2:
            raise ValueError(
                f"fractal category {self.name}: the probabilities p sum to {maps[:, 6].sum():.4g}, expected "
                "p >= 0 and sum 1; rescale it."
            )
        maps.setflags(write=False)
        object.__setattr__(self, "maps", maps)

    def perturbed(self, multipliers: NDArray[np.float64]) -> FractalCategory:
        """The category with (a..f) of every map times ``multipliers (6,)``;
        p stays as it is, as in the released code (facts T46).
        """
        maps = self.maps.copy()
        maps[:, :6] *= np.asarray(multipliers, dtype=np.float64)
        return FractalCategory(maps, self.name)

    def diverges(self, iterations: int = 10_000, seed: int = TRAJECTORY_SEED, limit: float = 1e6) -> bool:
        """Whether a trajectory of that many points leaves the box of that half-width or stops being
        finite.
        """
        points = kernels.chaos_game(self.maps, iterations, seed)
        return len(points) <= iterations or bool(np.abs(points).max() > limit)


def weight_table(w: float = 0.4) -> NDArray[np.float64]:
    """The 25 multipliers ``(25, 6)`` of (a..f): each parameter alone times 1-2w, 1-w, 1+w, 1+2w,
    and the identity once, in third place.

    ``w=0.4`` and ``w=0.1`` are the tables of the released scripts and of the code's default; the released
    table for 0.5 replaces its vanishing multiplier 0 by 0.01. ``ValueError`` unless 0 < w <= 0.5.
    """
    if not 0 < w <= 0.5:
        raise ValueError(
            f"weight table: got w={w}, expected 0 < w <= 0.5 (published tables: .0125, .025, .05, .1, .2, "
            ".3, .4, .5)."
        )
    factors = [max(1 - 2 * w, 0.01), 1 - w, 1.0, 1 + w, 1 + 2 * w]
    rows = [[factors[2]] * 6]
    for parameter in range(6):
        for factor in factors[:2] + factors[3:]:
            row = [1.0] * 6
            row[parameter] = factor
            rows.append(row)
    identity = rows.pop(0)
    return np.array(rows[:2] + [identity] + rows[2:], dtype=np.float64)


def search_categories(
    count: int,
    seed: int = 1,
    max_maps: int = 7,
    min_filling: float = 0.2,
    size: int = 512,
    iterations: int = 100_000,
    max_trials: int | None = None,
) -> list[FractalCategory]:
    """Random systems whose trajectory fills at least ``min_filling`` of a ``size`` x ``size`` picture,
    named 00000, 00001, ...

    2..``max_maps`` maps (7 in the released code, 8 in the paper), a..f uniform in (-1, 1), p proportional to
    ``|a d - b c|``. A smaller ``count`` gives a prefix of a larger one. The published categories come from
    another random stream: read their csv files instead. ``ValueError`` for arguments out of range;
    ``RuntimeError`` when ``max_trials`` (default 2000 per category) are not enough.
    """
    if count < 1 or max_maps < 2 or not 0 <= min_filling < 1 or size < 16 or iterations < 1:
        raise ValueError(
            f"fractal search: got count={count}, max_maps={max_maps}, min_filling={min_filling}, "
            f"size={size}, iterations={iterations}; expected count >= 1, max_maps >= 2, 0 <= min_filling < "
            "1, size >= 16, iterations >= 1."
        )
    rng = np.random.default_rng(seed)
    limit = 2000 * count if max_trials is None else max_trials
    found: list[FractalCategory] = []
    for _ in range(limit):
        maps = np.empty((int(rng.integers(2, max_maps + 1)), 7), dtype=np.float64)
        maps[:, :6] = rng.uniform(-1.0, 1.0, (len(maps), 6))
        determinant = np.abs(maps[:, 0] * maps[:, 3] - maps[:, 1] * maps[:, 2])
        trajectory = int(rng.integers(_MAX_SEED))
        maps[:, 6] = determinant / determinant.sum()
        if filling_rate(maps, size, iterations, trajectory) >= min_filling:
            found.append(FractalCategory(maps, f"{len(found):05d}"))
            if len(found) == count:
                return found
    raise RuntimeError(
        f"fractal search: {len(found)} of {count} categories reach {min_filling:.0%} in {limit} trials; "
        "lower min_filling."
    )


def filling_rate(
    maps: NDArray[np.float64], size: int = 512, iterations: int = 100_000, seed: int = TRAJECTORY_SEED
) -> float:
    """Share of a ``size`` x ``size`` picture (pad 6) visited by the chaos game of ``maps (m, 7)``;
    close to 0 for a divergent system.
    """
    points = kernels.chaos_game(np.ascontiguousarray(maps, dtype=np.float64), iterations, seed)
    return float(kernels.filling_rate(kernels.pixel_indices(points, size, size, 6), size, size))


def render(
    category: FractalCategory,
    size: int | tuple[int, int] = PUBLISHED_SIZE,
    mode: Mode = "patch_gray",
    weights: NDArray[np.float64] | None = None,
    patch_seed: int = 0,
    flip: int = 0,
    iterations: int | None = None,
    pad: int | None = None,
    trajectory_seed: int = TRAJECTORY_SEED,
) -> NDArray[np.uint8]:
    """One picture: ``(H, W) uint8`` for the grey modes, ``(H, W, 3)`` for the colour modes;
    background 0, grey foreground 127.

    ``flip`` 0..3 is none, up-down, left-right, both. ``iterations`` defaults to the 200,000 points of the
    published 362 x 362 pictures, scaled with the picture's area; ``pad`` to 6 pixels, less (down to 2) below
    96 pixels. ``weights (6,)`` multiply (a..f). ``ValueError`` for a mode, flip or size out of range.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if mode not in kernels.MODES or flip not in (0, 1, 2, 3):
        raise ValueError(
            f"fractal rendering: got mode={mode!r}, flip={flip}; "
            f"expected one of {', '.join(kernels.MODES)} and 0..3."
        )
    margin = min(6, max(2, min(height, width) // 16)) if pad is None else pad
    if margin < 0 or min(height, width) - 2 * margin < 1:
        raise ValueError(
            f"fractal rendering: got {height} x {width} pixels with pad {margin}, "
            "expected sides larger than twice the pad."
        )
    steps = (
        max(1, round(PUBLISHED_ITERATIONS * height * width / PUBLISHED_SIZE**2))
        if iterations is None
        else iterations
    )
    maps = category.maps if weights is None else category.perturbed(weights).maps
    points = kernels.chaos_game(maps, steps, trajectory_seed)
    pixels = kernels.pixel_indices(points, height, width, margin)
    image = kernels.draw(pixels, height, width, mode.startswith("patch"), mode.endswith("color"), patch_seed)
    if flip & 1:
        image = image[::-1]
    if flip & 2:
        image = image[:, ::-1]
    return np.ascontiguousarray(image if image.shape[2] == 3 else image[:, :, 0])


def read_category(path: str | Path) -> FractalCategory:
    """Reads one csv file (a row a,b,c,d,e,f,p per map), named after the file.

    ``FileNotFoundError`` if absent, ``ValueError`` if a row is not seven numbers or the probabilities do not
    sum to one.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such fractal csv file; expected rows of a,b,c,d,e,f,p.")
    rows: list[list[float]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = [float(field) for field in line.split(",")]
        except ValueError:
            raise ValueError(
                f"{path}, line {number}: got {line[:60]!r}, expected seven numbers with commas between."
            ) from None
        if len(row) != 7:
            raise ValueError(f"{path}, line {number}: got {len(row)} numbers, expected seven: a,b,c,d,e,f,p.")
        rows.append(row)
    if not rows:
        raise ValueError(f"{path}: the file is empty, expected rows of a,b,c,d,e,f,p; fetch it again.")
    try:
        return FractalCategory(np.array(rows), path.stem)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_categories(folder: str | Path) -> list[FractalCategory]:
    """Reads every csv below ``folder``, in order of file name;
    sub-folders too, as the published ones lie in csv0 .. csv39 (facts 6.1).

    ``FileNotFoundError`` if the folder does not exist or holds no csv file.
    """
    files = sorted(Path(folder).rglob("*.csv"), key=lambda path: path.name)
    if not files:
        raise FileNotFoundError(
            f"{folder}: got no csv file of fractal categories there or below; expected NNNNN.csv files."
        )
    return [read_category(path) for path in files]


def write_categories(
    folder: str | Path, categories: list[FractalCategory], per_folder: int | None = 25
) -> None:
    """Writes ``<name>.csv`` files into sub-folders csv0, csv1, ... of ``per_folder`` (None:
    directly), numbers exact on reading back.
    """
    for index, category in enumerate(categories):
        target = Path(folder) if per_folder is None else Path(folder) / f"csv{index // per_folder}"
        target.mkdir(parents=True, exist_ok=True)
        text = "".join(",".join(repr(float(value)) for value in row) + "\n" for row in category.maps)
        with atomic_write(target / f"{category.name}.csv") as temporary:
            Path(temporary).write_text(text, encoding="utf-8")
