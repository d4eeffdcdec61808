"""Semi-supervised distillation (Image2Point v2, section 4.3)."""
