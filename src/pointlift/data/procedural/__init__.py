"""Data that are made from a seed: shapes, fractals, and both written in the layouts of other datasets."""
