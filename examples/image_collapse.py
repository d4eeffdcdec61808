"""How far have an image network's classes collapsed? The CDNV of its features on training and other pictures.

The smaller the number, the tighter features gather by class; the paper relates it to how well the network's
features serve other tasks. Prints it for the embedded network on fractals like those it was trained on;
`source="imagenet:FOLDER"` measures any timm network.
"""

import argparse
from pathlib import Path

import pointlift as pl
from pointlift.methods.image_collapse import CollapseDataConfig, CollapseModelConfig, ImageCollapse

PICTURES = "procedural:fractals?categories=6&train=8&val=4&size=32"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="runs/examples/image_collapse", help="folder of the run")
    parser.add_argument("--model", default="fractal_resnet", help="any image network")
    args = parser.parse_args()
    recipe = ImageCollapse(
        model=CollapseModelConfig(image_model=args.model, pretrained=True),
        data=CollapseDataConfig(source=PICTURES, size=32, resize=None, batch_size=16),
    )
    result = pl.fit(recipe, args.out, resume=(Path(args.out) / "recipe.yaml").is_file())
    for split in ("train", "val"):
        pictures, cdnv = result.facts["pictures"][split], result.metrics[f"cdnv_{split}"]
        print(f"CDNV {cdnv:.3f} on {pictures} pictures ({split})")


if __name__ == "__main__":
    main()
