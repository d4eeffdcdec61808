"""A vision transformer on clouds: groups of points in place of image patches (Image2Point v2,
section 3.1 and appendix A).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models import checkpoint_seq
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from pointlift.core.sparse_tensor import PointBatch
from pointlift.inflation import InflationError, InflationReport, TensorFate
from pointlift.models.factory import image_network
from pointlift.nn import CloudNetwork
from pointlift.nn.cloud_network import level_feature
from pointlift.ops.neighbors import group, knn
from pointlift.ops.sampling import farthest_point_sampling

__all__ = ["Order", "PointViT", "Position", "interpolated_positions", "row_order", "token_grid"]

Position = Literal["unchanged", "interpolated", "learned", "none"]
Order = Literal["rows", "fps"]
_HIDDEN = 128  # of the MLP of position="learned"
_SUPPORTED = (
    "timm's VisionTransformer is (ViT, DeiT, DINO, DINOv2, AugReg, "
    "and the image towers of CLIP and SigLIP in that class)"
)


class PointViT(CloudNetwork):
    """Farthest points as centres, their nearest neighbours as "point-cloud patches", a linear embedding,
    and the image transformer.

    "We sample 256 centers and group 64 nearby points ... we use a linear embedding to project the point-cloud
    patches into a sequence, and ViT processes them the same as image patches. Except for the linear embedding
    and the final output classifier, all the models are kept the same as the original version"
    (v2, appendix A). Class, distillation and register tokens, their position embeddings, normalisations and
    pooling are the image model's own.

    Args:
        image_model: a timm VisionTransformer (of which a copy is taken), or the timm name of one.
        num_classes: width of the logits; the classifier is one linear layer.
        in_channels: xyz and what follows it; `cloud.features` is (N, in_channels) and starts with xyz. With 3
            it is not looked at. The coordinates always come from `cloud.xyz`.
        image_options, pretrained: for a name: keyword arguments of timm's constructor,
            and whether to load its weights.
        centres, neighbours: tokens per cloud, and points per token, nearest first and the centre itself among
            them. A cloud with fewer points repeats its points as centres, and its neighbours, in order.
        position: what a token is told of its place. The paper does not say how 256 groups meet the embeddings
            of 14 x 14 patches:
            "unchanged": token i gets the image embedding i, whose grid is resampled as timm does for larger
                pictures, to 16 x 16 for
            256 (`token_grid`); an image model without such embeddings adds none. "interpolated": the
            embeddings stay a picture, into which every centre looks bilinearly at its two coordinates `axes`.
            "learned": a new MLP of the centre's xyz. "none": nothing.
        order: of the centres, which matters to "unchanged" alone. "rows": as patches lie in a picture, row by
            row from the top and from the left in each (`row_order`), so that an embedding keeps its meaning.
            "fps": in the order in which they were sampled.
        axes: the coordinates that run to the right and up in that picture:
            "xy" for clouds whose y is up, as in ModelNet40's h5 files.
        append_centre: give the embedding the centre's xyz beside the group,
            whose coordinates are relative to the centre.

    Attributes:
        report: what became of every tensor of the image network.

    Sampling begins at a cloud's first point: shuffled in training, always the same in evaluation. New layers
    are drawn from torch's stream. arguments holds the name of the image model where one was given, and no
    trace of a module.

    Raises InflationError for an image model that is no such transformer, ValueError for options outside their
    range and, in forward, for features of another width than in_channels and for empty clouds.
    """

    kind = "point-vit"

    def __init__(
        self,
        image_model: nn.Module | str,
        num_classes: int = 40,
        in_channels: int = 3,
        image_options: Mapping[str, Any] | None = None,
        pretrained: bool = False,
        centres: int = 256,
        neighbours: int = 64,
        position: Position = "unchanged",
        order: Order = "rows",
        axes: str = "xy",
        append_centre: bool = False,
    ) -> None:
        _check(num_classes, in_channels, centres, neighbours, position, order, axes)
        arguments: dict[str, Any] = {
            "num_classes": num_classes, "in_channels": in_channels, "centres": centres,
            "neighbours": neighbours, "position": position, "order": order, "axes": axes,
            "append_centre": append_centre,
        }  # fmt: skip
        if isinstance(image_model, str):
            arguments |= {"image_model": image_model, "image_options": dict(image_options or {}) or None}
            image_model = image_network(image_model, pretrained, image_options)
        elif image_options or pretrained:
            raise ValueError(
                "image_options and pretrained are for image models that are given by name: "
                "make the module with them instead."
            )
        super().__init__(arguments, ["patches", "position"] if position == "learned" else ["patches"])
        self.centres, self.neighbours, self.append_centre = centres, neighbours, append_centre
        self.position_kind, self.order = position, order
        self.axes = ("xyz".index(axes[0]), "xyz".index(axes[1]))
        self.backbone = _copy_of(image_model)
        self.report = InflationReport()
        device, width = next(self.backbone.parameters()).device, int(self.backbone.embed_dim)
        bias = getattr(getattr(self.backbone.patch_embed, "proj", None), "bias", None) is not None
        self.grid, note = self._set_positions()
        self.backbone.patch_embed = nn.Identity()
        self.backbone.reset_classifier(0)
        self.patches = nn.Linear(neighbours * in_channels + 3 * append_centre, width, bias=bias)
        self.position: nn.Module = _position_mlp(width) if position == "learned" else nn.Identity()
        self.head = nn.Linear(int(self.backbone.head_hidden_size), num_classes)
        self._draw_head()
        self.to(device)
        self.fixed = frozenset(n for n, p in self.named_parameters() if not p.requires_grad)
        self._fill_report(image_model, note)

    def forward_features(self, cloud: PointBatch) -> Tensor:
        """(B, C): the image model's own pooling of the normalised tokens (the class token,
        in the paper's models).
        """
        tokens, centres = self.tokens(cloud)
        return self.encode(tokens, centres)

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        width, depth = int(self.backbone.embed_dim), len(self.backbone.blocks)
        return [level_feature(f"backbone.blocks.{i}", width, self.centres) for i in range(depth)]

    def _maps(self, outputs: list[Tensor], cloud: PointBatch) -> list[PointBatch]:
        with torch.no_grad():
            centres = self.tokens(cloud)[1]
        offsets = torch.arange(len(cloud) + 1, device=cloud.offsets.device) * self.centres
        own = outputs[0].shape[1] - self.centres
        return [
            PointBatch.trusted(centres.flatten(0, 1), out[:, own:].flatten(0, 1), offsets) for out in outputs
        ]

    def tokens(self, cloud: PointBatch) -> tuple[Tensor, Tensor]:
        """Embedded groups (B, centres, C) and their centres (B, centres, 3), in the order of the sequence."""
        self.check_clouds(cloud)
        extra = self.extra_features(cloud)
        count = len(cloud)
        with torch.no_grad():
            rows = farthest_point_sampling(cloud.xyz, cloud.offsets, self.centres, repeat=True)
            centres = cloud.xyz[rows]
            if self.position_kind == "unchanged" and self.order == "rows":
                order = row_order(centres, self.axes, token_grid(self.centres)[1])
                centres = centres.gather(1, order[..., None].expand(-1, -1, 3))
            query = centres.reshape(-1, 3)
            starts = torch.arange(count + 1, device=cloud.offsets.device) * self.centres
            _, index = knn(query, cloud.xyz, self.neighbours, starts, cloud.offsets, repeat=True)
            groups = cloud.xyz[index] - query[:, None]
        if extra is not None:
            groups = torch.cat([groups, group(extra, index)], 2)
        flat = groups.reshape(count, self.centres, self.neighbours * self.in_channels)
        if self.append_centre:
            flat = torch.cat([flat, centres], 2)
        return self.patches(flat), centres

    def encode(self, tokens: Tensor, centres: Tensor) -> Tensor:
        """(B, C) from tokens (B, T, C) and the centres (B, T, 3) they stand for:
        what timm's forward does behind the patch embedding.
        """
        vit = self.backbone
        own = [
            t
            for name in ("cls_token", "dist_token", "reg_token")
            if (t := getattr(vit, name, None)) is not None
        ]
        x = tokens + grid if (grid := self._grid_positions(tokens, centres)) is not None else tokens
        if own:
            prefix = torch.cat(own, 1)
            if vit.pos_embed is not None and self._prefix_positions:
                prefix = prefix + vit.pos_embed[:, : self._prefix_positions]
            x = torch.cat([prefix.expand(len(x), -1, -1).to(x.dtype), x], 1)
        x = vit.norm_pre(vit.patch_drop(vit.pos_drop(x)))
        x = checkpoint_seq(vit.blocks, x) if vit.grad_checkpointing else vit.blocks(x)
        pooled: Tensor = vit.forward_head(vit.norm(x), pre_logits=True)
        return pooled

    def draw_anew(self) -> None:
        """timm's own initialisation of the transformer, and new input and output layers."""
        for module in self.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset) and not any(True for _ in module.children()):
                reset()
        mode = str(getattr(self.backbone, "weight_init_mode", ""))
        # the suffix asks for a bias of the image head, which is gone
        self.backbone.init_weights(mode.removesuffix("_nlhb"))
        self._draw_head()

    def _draw_head(self) -> None:
        nn.init.trunc_normal_(self.head.weight, std=0.02)  # type: ignore[arg-type]  # as timm's linear layers
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def _set_positions(self) -> tuple[tuple[int, int], str]:
        """Cut or resample the image model's position embeddings as `position` asks;
        their grid and what the report says of it.
        """
        vit = self.backbone
        table = vit.pos_embed
        self._prefix_positions = 0 if table is None or vit.no_embed_class else int(vit.num_prefix_tokens)
        if table is None:
            if self.position_kind == "interpolated":
                raise InflationError(
                    "The image model has no position embeddings to interpolate: "
                    "use position='learned' or 'none'."
                )
            return (0, 0), ""
        grid = _image_grid(vit, table.shape[1] - self._prefix_positions)
        learns = table.requires_grad
        if self.position_kind == "interpolated":
            return grid, ""
        if self.position_kind == "unchanged":
            new = token_grid(self.centres)
            values = resample_abs_pos_embed(table.detach(), new, grid, self._prefix_positions)[
                :, : self._prefix_positions + self.centres
            ]
            vit.pos_embed = nn.Parameter(values.clone(), learns)
            same = values.shape == table.shape and new == grid
            return (
                new,
                "" if same else f"grid of {grid[0]}x{grid[1]} resampled to {new[0]}x{new[1]} (bicubic)",
            )
        kept = table.detach()[:, : self._prefix_positions].clone()
        vit.pos_embed = nn.Parameter(kept, learns) if self._prefix_positions else None
        return (0, 0), "class and register tokens only, the grid is dropped" if self._prefix_positions else ""

    def _grid_positions(self, tokens: Tensor, centres: Tensor) -> Tensor | None:
        """What is added to the tokens of groups: broadcasts to (B, T, C)."""
        if self.position_kind == "learned":
            place: Tensor = self.position(centres)
            return place
        if self.position_kind == "none" or self.backbone.pos_embed is None:
            return None
        table = self.backbone.pos_embed[:, self._prefix_positions :]
        return (
            table
            if self.position_kind == "unchanged"
            else interpolated_positions(table[0], self.grid, centres, self.axes)
        )

    def _fill_report(self, image_model: nn.Module, position_note: str) -> None:
        state, image = self.state_dict(), image_model.state_dict()
        for name, tensor in image.items():
            target, shape = f"backbone.{name}", tuple(tensor.shape)
            if target in state:
                note = position_note if name == "pos_embed" else ""
                self.report.rows.append(
                    TensorFate(name, "copied", shape, tuple(state[target].shape), target, note)
                )
            else:
                whys = {
                    "patch_embed": "the linear embedding of groups takes its place",
                    "pos_embed": f"position={self.position_kind!r}",
                }
                self.report.rows.append(
                    TensorFate(name, "dropped", shape, None, "", whys.get(name.split(".")[0], "image head"))
                )
        for name, tensor in state.items():
            if name.removeprefix("backbone.") not in image or not name.startswith("backbone."):
                self.report.rows.append(
                    TensorFate(name, "re-initialised", None, tuple(tensor.shape), name, "new layer")
                )
        if self.position_kind == "unchanged" and self.backbone.pos_embed is None:
            self.report.notes.append(
                "the image model has no table of position embeddings: groups are told nothing of their place"
            )


def token_grid(count: int) -> tuple[int, int]:
    """Rows and columns of the most nearly square grid that holds `count` tokens,
    the last row perhaps in part: 256 -> 16 x 16.
    """
    rows = max(1, round(math.sqrt(count)))
    return rows, -(-count // rows)


def row_order(centres: Tensor, axes: tuple[int, int], columns: int) -> Tensor:
    """(B, T) int64: centres (B, T, 3) as they lie in a picture of rows of `columns`.

    axes: coordinates that run to the right and up. The highest `columns` centres are the first row, from left
    to right; then the next. Equal coordinates keep their order.
    """
    right, up = centres[..., axes[0]], centres[..., axes[1]]
    falling = torch.argsort(up, dim=1, descending=True, stable=True)
    row = torch.argsort(falling, dim=1) // columns
    rising = torch.argsort(right, dim=1, stable=True)
    return rising.gather(1, torch.argsort(row.gather(1, rising), dim=1, stable=True))


def interpolated_positions(
    table: Tensor, grid: tuple[int, int], centres: Tensor, axes: tuple[int, int]
) -> Tensor:
    """(B, T, C): the picture of position embeddings, table (rows * columns, C),
    looked up bilinearly where centres (B, T, 3) lie.

    axes: coordinates that run to the right and up. Each cloud's centres fill the picture: the longer side of
    their bounding box reaches from edge to edge, the shorter one is centred. Differentiable in the table.
    """
    flat = centres[..., list(axes)]
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    half = ((high - low).amax(-1, keepdim=True) / 2).clamp(min=torch.finfo(flat.dtype).tiny)
    place = (flat - (low + high) / 2) / half * flat.new_tensor([1.0, -1.0])  # rows of a picture run downwards
    picture = table.T.reshape(1, -1, *grid).to(place.dtype)
    found = nn.functional.grid_sample(
        picture, place[None], mode="bilinear", padding_mode="border", align_corners=False
    )
    return found[0].permute(1, 2, 0)


def _position_mlp(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, width))


def _image_grid(vit: VisionTransformer, patches: int) -> tuple[int, int]:
    known = getattr(vit.patch_embed, "grid_size", None)
    grid = (int(known[0]), int(known[1])) if known is not None else (math.isqrt(patches), math.isqrt(patches))
    if grid[0] * grid[1] != patches:
        raise InflationError(
            f"The image model's {patches} position embeddings do not fill its grid of {grid[0]} x {grid[1]} "
            "patches."
        )
    return grid


def _copy_of(image_model: nn.Module) -> VisionTransformer:
    """A float32 copy, all of it trainable where all of it was frozen.
    Raises InflationError for what cannot read a sequence of groups.
    """
    kind = type(image_model)
    if not isinstance(image_model, VisionTransformer):
        raise InflationError(
            f"{kind.__name__} cannot read groups of points: {_SUPPORTED}; "
            "pointlift.inflate takes convolutional networks."
        )
    if type(image_model).forward_features is not VisionTransformer.forward_features:
        raise InflationError(
            f"{kind.__name__} has a forward_features of its own, which a cloud would bypass: {_SUPPORTED}."
        )
    if (
        image_model.global_pool == ""
        and image_model.attn_pool is None
        and not hasattr(image_model, "dist_token")
    ):
        raise InflationError(
            f"This {kind.__name__} does not pool its tokens: make it with global_pool='token' or 'avg'."
        )
    backbone = copy.deepcopy(image_model).to(torch.float32)
    if not any(p.requires_grad for p in backbone.parameters()):
        backbone.requires_grad_(True)
    return backbone


def _check(
    num_classes: int, in_channels: int, centres: int, neighbours: int, position: str, order: str, axes: str
) -> None:
    for name, value, least in (("num_classes", num_classes, 1), ("in_channels", in_channels, 3),
                               ("centres", centres, 1), ("neighbours", neighbours, 1)):  # fmt: skip
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"PointViT: {name} must be an integer of at least {least}, got {value!r}.")
    for name, word, known in (("position", position, get_args(Position)), ("order", order, get_args(Order))):
        if word not in known:
            raise ValueError(f"PointViT: {name} must be one of {', '.join(known)}, got {word!r}.")
    if len(axes) != 2 or len(set(axes)) != 2 or not set(axes) <= set("xyz"):
        raise ValueError(
            "PointViT: axes must be two different letters of x, y and z, rightwards and upwards, "
            f"got {axes!r}."
        )
