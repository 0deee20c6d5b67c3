"""An error where the system would end the process without a word: too little memory."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def limited_memory() -> Iterator[None]:
    """Let this process have its share of the memory that is free, where Linux says how much.

    Linux promises more than there is and kills who makes use of it. Beyond this limit torch's
    allocator fails instead, and a line can say so. Processes of one machine share evenly. With
    a GPU there is no limit: its driver may map memory that nobody uses.
    """
    import torch

    if torch.cuda.is_available() or not Path("/proc/self/statm").exists():
        yield
        return
    import resource

    import psutil

    free = psutil.virtual_memory().available + psutil.swap_memory().free
    share = free // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    allowed = psutil.Process().memory_info().data + share
    before = resource.getrlimit(resource.RLIMIT_DATA)
    set_already = [limit for limit in before if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([allowed, *set_already]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
