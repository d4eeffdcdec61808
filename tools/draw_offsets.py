"""Draw docs/offsets.svg: the order of the 27 offsets of a 3 x 3 x 3 kernel,
from the engine's own enumeration.

python tools/draw_offsets.py
"""

from __future__ import annotations

from pathlib import Path

from pointlift.ops.kernel_map import kernel_offsets

CELL, GAP, TOP, LEFT = 46, 48, 62, 40


def draw() -> str:
    rows = kernel_offsets(3).tolist()
    width, height = LEFT + 3 * (3 * CELL + GAP), TOP + 3 * CELL + 56
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui, '
        'sans-serif" font-size="14">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        '<text x="20" y="24" font-weight="600">Offsets of a 3 x 3 x 3 kernel: '
        "index = 9(dx+1) + 3(dy+1) + (dz+1)</text>",
    ]
    for index, (dx, dy, dz) in enumerate(rows):
        x = LEFT + (dx + 1) * (3 * CELL + GAP) + (dz + 1) * CELL
        y = TOP + (dy + 1) * CELL
        centre = (dx, dy, dz) == (0, 0, 0)
        fill = "#d9480f" if centre else ("#e7f5ff", "#d0ebff", "#a5d8ff")[dx + 1]
        ink = "#ffffff" if centre else "#1c2733"
        out.append(f'<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" fill="{fill}" stroke="#748ca6"/>')
        out.append(
            f'<text x="{x + CELL / 2}" y="{y + CELL / 2 + 5}" text-anchor="middle" '
            f'fill="{ink}">{index}</text>'
        )
    for dx in (-1, 0, 1):
        x = LEFT + (dx + 1) * (3 * CELL + GAP)
        out.append(
            f'<text x="{x + 1.5 * CELL}" y="{TOP - 12}" text-anchor="middle" font-weight="600">slice dx = '
            f"{dx}</text>"
        )
        out.append(
            f'<text x="{x + 1.5 * CELL}" y="{TOP + 3 * CELL + 20}" text-anchor="middle">dz = -1, 0, '
            "1 (fastest)</text>"
        )
    x, y = LEFT - 12, TOP + 1.5 * CELL
    out.append(
        f'<text x="{x}" y="{y}" text-anchor="middle" transform="rotate(-90 {x} {y})">dy = -1, 0, 1</text>'
    )
    note = "weight[index] is C_in x C_out; a dense Conv3d weight maps by flatten(2).permute(2, 1, 0)"
    out.append(f'<text x="20" y="{height - 12}" fill="#5b6b7a">{note}</text></svg>')
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    Path(__file__).parent.parent.joinpath("docs", "offsets.svg").write_text(draw())
