"""What all tests share: few threads, and where the real samples are."""

from __future__ import annotations

import os
from pathlib import Path

import numba
import pytest
import torch

THREADS = min(2, numba.config.NUMBA_NUM_THREADS)
torch.set_num_threads(THREADS)
numba.set_num_threads(THREADS)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real samples: ``POINTLIFT_REAL_DATA``, else ``../shared/data`` beside the repository; skips where absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("POINTLIFT_REAL_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real samples at {folder} (set POINTLIFT_REAL_DATA to the folder that holds them)")
    return folder
