"""Pseudo-labels: a 3D network learns the classes that an image network sees (Data-Efficient-3D-Learner)."""
