"""What the numba kernels are built from, and what says that they are being compiled."""

from pointlift.ops._numba.compiling import listen

listen()
