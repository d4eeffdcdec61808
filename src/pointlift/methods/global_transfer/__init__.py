"""Global transfer: what PPKT is compared with (section 4.1): Global KD, Gupta et al., CRD."""
