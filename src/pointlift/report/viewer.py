"""One self-contained HTML file with a 3D point viewer: no network, no libraries, works from a USB stick.

The viewer draws with WebGL, or with a z-buffer on a 2D canvas where a browser has none.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pointlift.system.atomic import atomic_write

MAX_POINTS = 200_000
_SCRIPTS = ("viewer_color.js", "viewer_render.js", "viewer.js", "viewer_input.js")


@dataclass(frozen=True, eq=False)
class ViewCloud:
    """A cloud to look at.

    Only `name` and `xyz` are needed; every other array adds a way to colour the points.
    """

    name: str
    xyz: ArrayLike
    """(N, 3) coordinates in any unit."""
    colors: ArrayLike | None = None
    """(N, 3) red, green, blue: floats in 0-1 or uint8 in 0-255."""
    labels: ArrayLike | None = None
    """(N,) integers; negative means unlabelled."""
    label_names: Sequence[str] | None = None
    """Name of label 0, 1, ...; labels beyond it are shown by number."""
    scalar: ArrayLike | None = None
    """(N,) floats, e.g. attention or an error; NaN is drawn grey."""
    caption: str = ""
    scalar_name: str = "value"


def viewer_html(
    clouds: Sequence[ViewCloud], title: str, up_axis: str = "y", max_points: int = MAX_POINTS
) -> str:
    """A complete HTML page that shows one of the clouds at a time, full window.

    Clouds with more than `max_points` points are replaced by a random subset (always the same one), and the
    page says so. Points with NaN or infinite coordinates are left out, and the page says so.

    Raises:
        ValueError: no clouds, a cloud without a finite point, arrays that do not fit, or an unknown up axis.
    """
    values = {"viewer": viewer_element(clouds, title, up_axis, max_points), "script": viewer_script()}
    return fill_document(title, ("viewer.css", "window.css"), "viewer.html", values)


def write_view(
    path: str | os.PathLike[str],
    clouds: Sequence[ViewCloud],
    title: str,
    up_axis: str = "y",
    max_points: int = MAX_POINTS,
) -> Path:
    """Writes `viewer_html` atomically and returns the path.
    Raises what `viewer_html` raises, before touching the file.
    """
    text = viewer_html(clouds, title, up_axis, max_points)
    target = Path(path)
    with atomic_write(target) as temporary:
        Path(temporary).write_text(text, encoding="utf-8")
    return target


def viewer_element(
    clouds: Sequence[ViewCloud], title: str, up_axis: str = "y", max_points: int = MAX_POINTS
) -> str:
    """The viewer's place in a page and its data; the page must also hold `viewer_script` and viewer.css."""
    payload = json.dumps(viewer_data(clouds, title, up_axis, max_points), ensure_ascii=False, allow_nan=False)
    return (
        '<div class="plv"></div><script type="application/json" '
        f'class="plv-data">{_script_safe(payload)}</script>'
    )


def viewer_script() -> str:
    """The viewer's JavaScript in one scope; afterwards `PointliftViewer.mountAll(standalone)` starts every
    viewer of the page.
    """
    body = "\n".join(asset(name) for name in _SCRIPTS)
    return f'const PointliftViewer = (() => {{\n"use strict";\n{body}\nreturn PointliftViewer;\n}})();'


def viewer_data(
    clouds: Sequence[ViewCloud], title: str, up_axis: str = "y", max_points: int = MAX_POINTS
) -> dict[str, Any]:
    """What the page embeds: coordinates (float32), colours (uint8),
    labels (int32) and scalars (float32) in base64, little-endian.

    Coordinates far from zero (geographic ones) are stored relative to `origin`,
    so that float32 can hold them.
    """
    if not clouds:
        raise ValueError("there is nothing to view: give at least one cloud")
    if up_axis not in ("x", "y", "z"):
        raise ValueError(f"up_axis must be 'x', 'y' or 'z', got {up_axis!r}")
    if max_points < 1:
        raise ValueError(f"max_points must be at least 1, got {max_points}")
    return {"title": title, "upAxis": up_axis, "clouds": [_cloud_data(cloud, max_points) for cloud in clouds]}


def fill_document(title: str, styles: Sequence[str], template: str, values: Mapping[str, str]) -> str:
    """A complete HTML page of that title and style sheets; `values` are those of its body's `template`."""
    named = {"title": html.escape(title)}
    body = fill_template(asset(template), {**named, **values})
    css = "\n".join(asset(name) for name in styles)
    return fill_template(asset("document.html"), {**named, "css": css, "body": body})


def fill_template(template: str, values: Mapping[str, str]) -> str:
    """Replaces every {{name}} of the template in one pass, so that braces inside values stay as they are."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match.group(1)], template)


def asset(name: str) -> str:
    """Text of a file that is shipped beside this module."""
    return resources.files("pointlift.report").joinpath(name).read_text(encoding="utf-8")


def _cloud_data(cloud: ViewCloud, max_points: int) -> dict[str, Any]:
    xyz = np.asarray(cloud.xyz, dtype=np.float64)
    if xyz.ndim != 2 or xyz.shape[1] != 3:
        raise ValueError(f"cloud {cloud.name!r}: xyz must have shape (N, 3), got {xyz.shape}")
    finite = np.isfinite(xyz).all(axis=1)
    if not finite.any():
        raise ValueError(
            f"cloud {cloud.name!r} has {len(xyz)} points, none with finite coordinates; "
            "there is nothing to view"
        )
    keep = np.flatnonzero(finite)
    if len(keep) > max_points:
        keep = np.sort(np.random.default_rng(0).choice(keep, max_points, replace=False))
    origin = _origin(xyz[finite])
    labels = _per_point(cloud, "labels", cloud.labels, len(xyz))
    if labels is not None and not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"cloud {cloud.name!r}: labels must be integers, got {labels.dtype}")
    scalar = _per_point(cloud, "scalar", cloud.scalar, len(xyz))
    rgb = _rgb(cloud, len(xyz))
    return {
        "name": cloud.name,
        "caption": cloud.caption,
        "count": len(keep),
        "total": int(finite.sum()),
        "dropped": int((~finite).sum()),
        "origin": origin.tolist(),
        "xyz": _base64((xyz[keep] - origin).astype("<f4")),
        "rgb": None if rgb is None else _base64(rgb[keep]),
        "labels": None if labels is None else _base64(labels[keep].astype("<i4")),
        "labelNames": [str(name) for name in cloud.label_names or ()],
        "scalar": None if scalar is None else _base64(scalar[keep].astype("<f4")),
        "scalarName": cloud.scalar_name,
    }


def _origin(xyz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Zero, unless the cloud lies so far out that float32 would blur it;
    then the middle of its bounding box, rounded.
    """
    low, high = xyz.min(axis=0), xyz.max(axis=0)
    extent = float((high - low).max())
    far = float(np.abs(xyz).max())
    return np.round((low + high) / 2.0) if far > 1000.0 and far > 100.0 * extent else np.zeros(3)


def _per_point(cloud: ViewCloud, what: str, values: ArrayLike | None, n: int) -> NDArray[Any] | None:
    if values is None:
        return None
    array = np.asarray(values)
    if array.shape != (n,):
        raise ValueError(
            f"cloud {cloud.name!r}: {what} must have shape ({n},), one per point, got {array.shape}"
        )
    return array


def _rgb(cloud: ViewCloud, n: int) -> NDArray[np.uint8] | None:
    """(N, 3) bytes of the given colours."""
    if cloud.colors is None:
        return None
    colors = np.asarray(cloud.colors)
    if colors.shape != (n, 3):
        raise ValueError(
            f"cloud {cloud.name!r}: colors must have shape ({n}, 3), one red, green, blue per point, "
            f"got {colors.shape}"
        )
    if colors.dtype == np.uint8:
        return colors
    unit = colors.astype(np.float64)
    if not (np.isfinite(unit).all() and unit.min(initial=0.0) >= 0.0 and unit.max(initial=0.0) <= 1.0):
        raise ValueError(
            f"cloud {cloud.name!r}: colors must be uint8 or floats in 0-1, got {colors.dtype} outside it; "
            "divide by 255 first"
        )
    return np.round(255.0 * unit).astype(np.uint8)


def _base64(array: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")


def _script_safe(text: str) -> str:
    """JSON that cannot end its script element or start a comment in it."""
    return text.translate({ord(c): f"\\u{ord(c):04x}" for c in "&<>\u2028\u2029"})
