"""What the tensors of released EfficientNets are called in timm's networks of the same layers.

The package efficientnet-pytorch, whose names the released files of EfficientNet and EfficientNet-Lite have,
numbers its blocks through (`_blocks.7._expand_conv`); timm numbers stages and blocks within them, and calls
the layers of a block by what they do there.
"""

from __future__ import annotations

import re
from collections.abc import Collection

__all__ = ["timm_names"]

OUTSIDE = {
    "_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier",
}  # fmt: skip
SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
# layers of a block that first widens its input, and of one that does not
WIDENING = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_project_conv": "conv_pwl", "_bn2": "bn3", **SQUEEZE,
}  # fmt: skip
PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2", **SQUEEZE}
BLOCK = re.compile(r"_blocks\.(\d+)\.(\w+)\.(\w+)")


def timm_names(names: Collection[str], expected: Collection[str]) -> dict[str, str] | None:
    """{name in a released file: name in timm's network}; None where `names` are no such file's.

    expected: names of the network's tensors, whose stages say how many blocks each has. A network without
    such stages gets names that it does not have.
    """
    if "_conv_stem.weight" not in names or "_blocks.0._depthwise_conv.weight" not in names:
        return None
    found = (re.match(r"blocks\.\d+\.\d+", name) for name in expected)
    places = list(dict.fromkeys(match[0] for match in found if match))
    renamed: dict[str, str] = {}
    for name in names:
        module, _, last = name.rpartition(".")
        if module in OUTSIDE:
            renamed[name] = f"{OUTSIDE[module]}.{last}"
            continue
        if (match := BLOCK.fullmatch(name)) is None:
            return None
        number, layer = int(match[1]), match[2]
        layers = WIDENING if f"_blocks.{number}._expand_conv.weight" in names else PLAIN
        if layer not in layers:
            return None
        place = places[number] if number < len(places) else f"blocks.{number}"
        renamed[name] = f"{place}.{layers[layer]}.{last}"
    return renamed
