"""How far have an image network's classes collapsed? The CDNV of its features on training and other pictures.

The smaller the number, the tighter features gather by class; the paper relates it to how well the network's
features serve other tasks. Prints it for the embedded network on fractals like those it was trained on;
`source="imagenet:FOLDER"` measures any timm network.
"""

from command_line import arguments, fit

from pointlift.methods.image_collapse import CollapseDataConfig, CollapseModelConfig, ImageCollapse

PICTURES = "procedural:fractals?categories=6&train=8&val=4&size=32"


def main() -> None:
    """What the words of the command line ask for."""
    args = arguments(__doc__, "image_collapse", model=("fractal_resnet", "any image network"))
    recipe = ImageCollapse(
        model=CollapseModelConfig(image_model=args.model, pretrained=True),
        data=CollapseDataConfig(source=PICTURES, size=32, resize=None, batch_size=16),
    )
    result = fit(recipe, args.out)
    for split in ("train", "val"):
        pictures, cdnv = result.facts["pictures"][split], result.metrics[f"cdnv_{split}"]
        print(f"CDNV {cdnv:.3f} on {pictures} pictures ({split})")


if __name__ == "__main__":
    main()
