"""PointContrast (Xie et al., ECCV 2020): contrast of points that two views of a scene share."""
