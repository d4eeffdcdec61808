"""The image datasets that pointlift reads: what each is, where it comes from, under which terms, and how its folder looks."""

from __future__ import annotations

from pointlift.data.sources.known import KnownDataset

__all__ = ["describe_image_datasets"]


def describe_image_datasets() -> tuple[KnownDataset, ...]:
    """Every dataset that :func:`~pointlift.data.images.open.open_images` opens."""
    photographs = "photographs of many owners; non-commercial research and education, on registration"
    return (
        KnownDataset(
            "procedural fractals",
            "procedural:fractals",
            "categories of fractals searched and rendered on the spot from a seed (FractalDB's method); any size",
            "part of pointlift, nothing to download",
            "as pointlift",
            "none; options as in procedural:fractals?categories=60&size=48&train=500&val=50",
        ),
        KnownDataset(
            "ImageNet-1K (ILSVRC 2012)",
            "imagenet:<folder>",
            "1,281,167 training and 50,000 validation photographs of 1,000 classes, 150 GB",
            "the ImageNet web page or the ILSVRC pages of Kaggle (ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and the devkit)",
            photographs,
            "train/<wnid>/*.JPEG, and val/<wnid>/*.JPEG or val/*.JPEG with LOC_val_solution.csv, val.txt or the devkit's ground truth",
        ),
        KnownDataset(
            "Tiny-ImageNet",
            "tiny-imagenet:<folder>",
            "100,000 training and 10,000 validation photographs of 200 classes, 64 x 64 pixels, 240 MB",
            "Stanford's course CS231n (tiny-imagenet-200.zip)",
            photographs,
            "wnids.txt, words.txt, train/<wnid>/images/*.JPEG, val/images/*.JPEG, val/val_annotations.txt",
        ),
        KnownDataset(
            "FractalDB-1K / FractalDB-10K, rendered",
            "fractaldb:<folder>",
            "1,000 pictures of 362 x 362 pixels of each of 1,000 or 10,000 categories, 13 GB per 1,000 categories",
            "rendered by FractalDB's published code, or by pointlift (pointlift.data.procedural.fractals.fractal_images.write_fractaldb)",
            "MIT",
            "<category>/<category>_<weight>_count_<n>_flip<k>.png",
        ),
        KnownDataset(
            "FractalDB categories (csv)",
            "fractal-csv:<folder>",
            "the affine maps of 1,000 or 10,000 categories; the pictures are rendered whenever they are read",
            "FractalDB's published code (data/csv_rate0.2_category1000 of FractalDB-Pretrained-ResNet-PyTorch)",
            "MIT",
            "NNNNN.csv with a row a,b,c,d,e,f,p per map, directly or in csv0 ... csv39",
        ),
        KnownDataset(
            "your own pictures",
            "imagefolder:<folder>",
            "a folder per class of .jpg .jpeg .png .bmp .gif .webp .tif .tiff .ppm .pgm files",
            "yours",
            "yours",
            "train/<class>/*.jpg and val/<class>/*.jpg, or <class>/*.jpg, of which a share is held out",
        ),
    )
