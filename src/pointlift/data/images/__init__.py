"""Image datasets, to pre-train image networks on: their readers, and what a network sees of a picture."""

IMAGE_SOURCES: dict[str, str] = {
    "imagefolder": "pointlift.data.images.layouts:IMAGE_FOLDER",
    "imagenet": "pointlift.data.images.layouts:IMAGENET",
    "tiny-imagenet": "pointlift.data.images.layouts:TINY_IMAGENET",
    "fractaldb": "pointlift.data.images.layouts:FRACTALDB",
    "fractal-csv": "pointlift.data.images.fractals:FRACTAL_CSV",
    "procedural": "pointlift.data.images.fractals:FRACTALS",
}
"""The records by name; a file is imported when it is needed."""
