"""Image classifiers from random weights: what Image2Point and the embedded image network start from."""
