"""The ``sluice`` command's way in, which is there before the rest of the program is loaded."""

import gc
import os
import signal
from types import FrameType


def main() -> None:
    """Run the command.

    As the first process of a container it can be told to stop from now on. The kernel drops a
    signal that such a process has no handler for, and the server has its own only when it serves.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, _stop)
    gc.set_threshold(50_000)  # little of what is loaded is garbage; looking took a sixth
    from app.__main__ import main as run  # noqa: PLC0415 -- it takes half a second or more

    run()


def _stop(_number: int, _frame: FrameType | None) -> None:
    """Nothing has been taken yet that would have to be given back."""
    os._exit(0)
