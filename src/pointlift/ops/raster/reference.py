"""Pictures in plain torch and float64: one view after the other, a few faces on all pixels at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from pointlift.ops.raster.api import Cameras, Color, Fragments, Frame, Light, Paint
from pointlift.ops.raster.triangles import SLIVER, grid_bits

__all__ = ["rasterize", "shade", "splat_points"]

CHUNK = 2**22  # faces times pixels that are evaluated at once


def _turned(points: Tensor, eyes: Cameras, view: int) -> tuple[Tensor, Tensor, Tensor]:
    """Down, right and depth of points (N, 3); sums written out,
    because a matrix product may add in another order.
    """
    x, y, z = points.unbind(-1)
    down, right, forward = (r[0] * x + r[1] * y + r[2] * z for r in eyes.rotations[view])
    return down, right, forward + eyes.distance


def _corners(points: Tensor, eyes: Cameras, view: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """(N, 3): column and row times w, w, in pixels; and depth (N,)."""
    down, right, depth = _turned(points, eyes, view)
    w = torch.ones_like(depth) if eyes.orthographic else depth
    column = right * (eyes.focal * width / 2) + (width / 2 - 0.5) * w
    row = down * (eyes.focal * height / 2) + (height / 2 - 0.5) * w
    return torch.stack([column, row, w], -1), depth


def _on_grid(corner: Tensor, depth: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Columns and rows (N, 2) on the grid of `pointlift.ops.raster.triangles`,
    and which corners lie within it.
    """
    lines, reach = grid_bits(height, width)
    screen = corner[:, :2] * (1 / corner[:, 2:])
    return (screen * lines).round() / lines, (depth > 0) & (screen.abs() <= reach).all(1)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    (xi, yi, wi), (xj, yj, wj) = a.unbind(-1), b.unbind(-1)
    return torch.stack([yi * wj - wi * yj, wi * xj - xi * wj, xi * yj - yi * xj], -1)


def _edges(corner: Tensor, faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(F, 3, 3) edges as functions of (column, row, 1), positive inside; the determinant (F,);
    and whether it is more than rounding.
    """
    a, b, c = (corner[faces[:, i]] for i in range(3))
    edge = torch.stack([_cross(b, c), _cross(c, a), _cross(a, b)], -2)
    p, q, r = (a * edge[:, 0]).unbind(-1)
    det = p + q + r
    solid = det.abs() > SLIVER * (p.abs() + q.abs() + r.abs())
    sign = torch.where(det < 0, -1.0, 1.0).to(det.dtype)
    return edge * sign[:, None, None], det * sign, solid


def _z_buffer(
    vertices: Tensor, faces: Tensor, eyes: Cameras, view: int, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Nearest face (H, W) int64, -1 where there is none, and the weights of its corners (H, W, 3) float64."""
    corner, depth = _corners(vertices, eyes, view, height, width)
    screen, held = _on_grid(corner, depth, height, width)
    within = held[faces].all(1)
    flat = torch.where(held[:, None], torch.cat([screen, torch.ones_like(screen[:, :1])], 1), 1.0)
    free, snapped = _edges(corner, faces), _edges(flat, faces)
    edge = torch.where(within[:, None, None], snapped[0], free[0])
    det = torch.where(within, snapped[1], free[1])
    solid = torch.where(within, snapped[1] > 0, free[2])
    scale = torch.where(within[:, None], 1 / depth[faces], 1.0)  # of the edges, to give the weights
    if eyes.orthographic:
        scale = torch.ones_like(scale)
    near = depth[faces].neg() if eyes.orthographic else scale
    plane = (edge * near[..., None]).sum(1) / det[:, None]
    owns = (edge[..., 0] > 0) | ((edge[..., 0] == 0) & (edge[..., 1] > 0))
    row = torch.arange(height, dtype=torch.float64, device=vertices.device)[:, None]
    column = torch.arange(width, dtype=torch.float64, device=vertices.device)[None, :]
    nearest = torch.full((height, width), -torch.inf if eyes.orthographic else 0.0, device=vertices.device)
    owner = torch.full((height, width), -1, dtype=torch.int64, device=vertices.device)
    step = max(1, CHUNK // (height * width))
    for start in range(0, len(faces), step):
        part = slice(start, start + step)
        value = [
            edge[part, k, 0, None, None] * column
            + (edge[part, k, 1, None, None] * row + edge[part, k, 2, None, None])
            for k in range(3)
        ]
        inside = solid[part, None, None] & torch.stack(
            [(v > 0) | ((v == 0) & owns[part, k, None, None]) for k, v in enumerate(value)]
        ).all(0)
        key = (
            plane[part, 0, None, None] * column
            + (plane[part, 1, None, None] * row + plane[part, 2, None, None])
        ).to(torch.float32)
        if eyes.orthographic:
            inside &= key < 0
        key = torch.where(inside & key.isfinite(), key, -torch.inf)
        best = key.max(0).values
        first = (key == best).to(torch.int8).argmax(0)  # the first of the nearest
        closer = best > nearest
        nearest = torch.where(closer, best, nearest)
        owner = torch.where(closer, first + start, owner)
    taken = owner.clamp(min=0)
    e = edge[taken]
    weights = scale[taken] * (e[..., 0] * column[..., None] + (e[..., 1] * row[..., None] + e[..., 2])).clamp(
        min=0
    )
    weights = torch.where((owner >= 0)[..., None], weights / weights.sum(-1, keepdim=True), 0.0)
    return owner, weights


def _normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """(F, 3) float64 unit normals, zero for faces without area."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    sides = torch.stack([b - a, c - a], 1)
    sides = sides / sides.abs().amax((1, 2), keepdim=True).clamp(min=1e-300)
    normal = torch.linalg.cross(sides[:, 0], sides[:, 1])
    length = normal.norm(dim=1, keepdim=True)
    return torch.where(length > 0, normal / length.clamp(min=1e-300), 0.0)


def rasterize(vertices: Tensor, faces: Tensor, frame: Frame, barycentric: bool, normal: bool) -> Fragments:
    """See `pointlift.ops.raster.api.rasterize`."""
    eyes, height, width = frame
    faces = faces.to(torch.int64)
    views = len(eyes.rotations)
    depth, face = (
        vertices.new_zeros(views, height, width, dtype=torch.float32),
        faces.new_empty(views, height, width, dtype=torch.int32),
    )
    weights = vertices.new_zeros(views, height, width, 3, dtype=torch.float32)
    directions = vertices.new_zeros(views, height, width, 3, dtype=torch.float32)
    normals = _normals(vertices, faces)
    for view in range(views):
        owner, weight = _z_buffer(vertices, faces, eyes, view, height, width)
        seen, taken = owner >= 0, owner.clamp(min=0)
        face[view] = owner
        depth[view] = torch.where(
            seen, (_turned(vertices, eyes, view)[2][faces[taken]] * weight).sum(-1), 0.0
        )
        weights[view] = weight
        directions[view] = torch.where(seen[..., None], normals[taken], 0.0)
    return Fragments(depth, face, weights if barycentric else None, directions if normal else None)


def _texture(texture: Tensor, uv: Tensor) -> Tensor:
    """(..., 3) in 0-1: interpolated texels at uv (..., 2)."""
    height, width = texture.shape[:2]
    inside = uv - uv.floor()
    column, row = inside[..., 0] * width - 0.5, (1 - inside[..., 1]) * height - 0.5
    left, top = column.floor(), row.floor()
    x, y = (column - left)[..., None], (row - top)[..., None]
    j, i = left.to(torch.int64), top.to(torch.int64)
    texel = [
        [texture[(i + down) % height, (j + across) % width].to(torch.float64) for across in (0, 1)]
        for down in (0, 1)
    ]
    above, below = (pair[0] * (1 - x) + pair[1] * x for pair in texel)
    return (above * (1 - y) + below * y) / 255


def _colors(paint: Paint, faces: Tensor, owner: Tensor, weight: Tensor) -> Tensor:
    """(H, W, 3) colour of the face under every pixel, before light."""
    corner = faces[owner]
    if paint.uv is not None and paint.texture is not None:
        return _texture(paint.texture, (paint.uv.to(torch.float64)[corner] * weight[..., None]).sum(-2))
    if paint.face_colors is not None:
        return paint.face_colors.to(torch.float64)[owner]
    if paint.vertex_colors is not None:
        return (paint.vertex_colors.to(torch.float64)[corner] * weight[..., None]).sum(-2)
    return (
        torch.tensor(paint.color, dtype=torch.float32, device=faces.device)
        .to(torch.float64)
        .expand(*owner.shape, 3)
    )


def shade(
    vertices: Tensor, faces: Tensor, frame: Frame, paint: Paint, light: Light, background: Color
) -> Tensor:
    """See `pointlift.ops.raster.api.shade`."""
    eyes, height, width = frame
    faces = faces.to(torch.int64)
    normals = _normals(vertices, faces)
    images = vertices.new_empty(len(eyes.rotations), 3, height, width, dtype=torch.float32)
    right, up, towards = light.direction
    # in the camera's axes: down, right, forward
    lamp = torch.tensor([-up, right, -towards], dtype=torch.float64, device=vertices.device)
    empty = torch.tensor(background, dtype=torch.float64, device=vertices.device)
    row = torch.arange(height, dtype=torch.float64, device=vertices.device)[:, None].expand(height, width)
    column = torch.arange(width, dtype=torch.float64, device=vertices.device)[None, :].expand(height, width)
    ray = torch.stack(
        [
            (row - (height / 2 - 0.5)) / (eyes.focal * height / 2),
            (column - (width / 2 - 0.5)) / (eyes.focal * width / 2),
            torch.ones_like(row),
        ],
        -1,
    )
    if eyes.orthographic:
        ray = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64, device=vertices.device).expand(
            height, width, 3
        )
    towards_camera = -ray / ray.norm(dim=-1, keepdim=True)
    half = towards_camera + lamp
    half = half / half.norm(dim=-1, keepdim=True).clamp(min=1e-300)
    for view in range(len(images)):
        owner, weight = _z_buffer(vertices, faces, eyes, view, height, width)
        taken = owner.clamp(min=0)
        normal = normals[taken] @ eyes.rotations[view].T
        facing = (normal * towards_camera).sum(-1, keepdim=True)
        normal = torch.where(facing >= 0, normal, -normal)
        lit, gloss = ((normal * d).sum(-1, keepdim=True).clamp(min=0) for d in (lamp, half))
        strength = light.ambient + light.key * lit + light.head * facing.abs()
        color = _colors(paint, faces, taken, weight) * strength + light.specular * gloss**light.shininess
        images[view] = torch.where((owner >= 0)[..., None], color.clamp(0, 1), empty).permute(2, 0, 1)
    return images


def splat_points(
    xyz: Tensor, offsets: Tensor, frame: Frame, values: Tensor | None, splat: int, background: float
) -> Tensor:
    """See `pointlift.ops.raster.api.splat_points`."""
    eyes, height, width = frame
    clouds, pixels, n = offsets.numel() - 1, height * width, len(xyz)
    cloud = torch.repeat_interleave(
        torch.arange(clouds, device=xyz.device), (offsets[1:] - offsets[:-1]).to(xyz.device)
    )
    channels = 1 if values is None else values.shape[1]
    images = xyz.new_empty(clouds, len(eyes.rotations), channels, height, width, dtype=torch.float32)
    for view in range(len(eyes.rotations)):
        down, right, depth = _turned(xyz, eyes, view)
        w = torch.ones_like(depth) if eyes.orthographic else depth
        top = torch.floor(down * (eyes.focal * height / 2) / w + (height / 2 - 0.5) + 0.5) - (splat - 1) // 2
        left = torch.floor(right * (eyes.focal * width / 2) / w + (width / 2 - 0.5) + 0.5) - (splat - 1) // 2
        near = depth.to(torch.float32)
        nearest = torch.full((clouds * pixels,), torch.inf, device=xyz.device)
        covered: list[tuple[Tensor, Tensor]] = []
        for i in range(splat):
            for j in range(splat):
                row, column = top + i, left + j
                seen = (
                    (row >= 0) & (row < height) & (column >= 0) & (column < width) & (depth > 0)
                ).nonzero()[:, 0]
                place = (cloud[seen] * height + row[seen].to(torch.int64)) * width + column[seen].to(
                    torch.int64
                )
                covered.append((seen, place))
                nearest.scatter_reduce_(0, place, near[seen], "amin")
        owner = torch.full((clouds * pixels,), n, dtype=torch.int64, device=xyz.device)
        for seen, place in covered:
            wins = near[seen] == nearest[place]
            owner.scatter_reduce_(0, place[wins], seen[wins], "amin")
        table = near[:, None] if values is None else values
        table = torch.cat(
            [
                table,
                torch.full_like(table[:1], background) if n else table.new_full((1, channels), background),
            ]
        )
        images[:, view] = table[owner].reshape(clouds, height, width, channels).permute(0, 3, 1, 2)
    return images
