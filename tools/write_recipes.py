"""Write src/pointlift/recipes/image2point/modelnet40_*.yaml:
`python tools/write_recipes.py` (--check only compares).

Every recipe is complete by itself, so they are many and alike; this script keeps them alike.
"""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "src" / "pointlift" / "recipes" / "image2point"
NETWORKS = {"resnet18": "ResNet18", "resnet50": "ResNet50", "resnet152": "ResNet152"}
REGIMES = {
    "io": "input and output layers learn; the backbone keeps its image weights and statistics (FIP-IO)",
    "io+stats": "as io, and the batch statistics of the backbone move (v1: mu, sigma)",
    "io+bn": "as io+stats, and the weights and biases of the batch normalisations learn (FIP-IO+BN)",
    "all": "every parameter learns, from the inflated image weights (FIP-ALL)",
    "scratch": "every parameter learns, from random weights: what the others are compared with",
}

MODELNET40 = """\
# Image2Point on ModelNet40, {network}, regime {regime}:
# {meaning}.
# The protocol of the paper (v2, appendix A): SGD with one cosine over 300 epochs, batches of 32, voxels of 0.05, xyz as features.
# Needs modelnet40_ply_hdf5_2048; the image weights are torchvision's for ImageNet-1k, which timm downloads.
method: image2point
seed: 0
out: runs/modelnet40_{name}_{regime}
model:
  image_model: {name}.tv_in1k
  pretrained: {pretrained}
  rule: repeat
  axis: z
  stem: linear
  head: linear-bn
  shortcut_kernel: 1
  in_channels: 3
  regime: {regime}
data:
  source: modelnet:data/modelnet40_ply_hdf5_2048
  n_points: 2048
  normalise: unit-sphere  # the files already are; so that predict does the same to other clouds
  features: xyz
  voxel_size: 0.05
  shots: null  # 10 for ten examples per class
  share: null
  val_fraction: null  # null: the test split is looked at after every epoch, as in the paper
  augment: true
  batch_size: 32
  num_workers: 4
optim:
  lr: 0.1
  momentum: 0.9
  weight_decay: 1.0e-4
  epochs: 300
  schedule: cosine
  label_smoothing: 0.0
trainer:
  accelerator: auto
  devices: 1
  precision: 32-true
"""


def recipes() -> dict[str, str]:
    """{file name: text} of every one of them."""
    found = {}
    for name, network in NETWORKS.items():
        for regime, meaning in REGIMES.items():
            pretrained = "false" if regime == "scratch" else "true"
            text = MODELNET40.format(
                name=name, network=network, regime=regime, meaning=meaning, pretrained=pretrained
            )
            found[f"modelnet40_{name}_{regime}.yaml"] = text
    return found


if __name__ == "__main__":
    stale = [
        n
        for n, text in recipes().items()
        if not (FOLDER / n).is_file() or (FOLDER / n).read_text(encoding="utf-8") != text
    ]
    if "--check" in sys.argv[1:]:
        print("\n".join(f"differs: {n}" for n in stale) or "all recipes are as this script writes them")
        sys.exit(1 if stale else 0)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in recipes().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    print(f"wrote {len(recipes())} recipes into {FOLDER}, {len(stale)} of them changed")
