"""PointCMT: an image network that sees views of objects teaches a network that sees their points
(Yan et al., NeurIPS 2022).
"""
