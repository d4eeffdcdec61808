"""Fractals of iterated function systems, after FractalDB:
their search, their rendering, sets of their pictures.
"""
