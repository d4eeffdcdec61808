"""PPKT: contrastive pixel-to-point knowledge transfer (Liu et al. 2021), and the family it founded."""
