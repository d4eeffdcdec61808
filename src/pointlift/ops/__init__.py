"""What is slow: one folder per operation, each with api, reference and cpu (numba) files."""
