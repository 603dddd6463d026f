"""Start-up of a process that is going to train: its imports, without garbage collection."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def start_up() -> Iterator[None]:
    """Import torch and what a run needs inside of the block.

    While modules are imported, hundreds of thousands of objects are made that stay; to look
    through them again and again for garbage takes a quarter of the time. Afterwards they are left
    out of all collections, which a fork of the process needs to share their memory, too.

    It is for processes of the program. Where torch has been imported before, nothing is changed.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
