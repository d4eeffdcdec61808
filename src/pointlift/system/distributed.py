"""What a process knows of the others that run beside it."""

from __future__ import annotations

import torch
from lightning.pytorch.utilities import rank_zero_only

__all__ = ["process_rank", "wait_for_others"]


def process_rank() -> int:
    """This process' rank before there is a Trainer: Lightning has read it from the launcher's environment."""
    return int(getattr(rank_zero_only, "rank", 0) or 0)


def wait_for_others() -> None:
    """Until all processes of a distributed run are here: the first has then written what the others read."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
