"""`sluice serve` with the garbage collector as the product sets it, or as Python does.

    python collector.py tuned|plain FILE serve ...

At the end FILE holds the longest collection since the server took connections, in milliseconds.
"""

import atexit
import gc
import sys
import time
from pathlib import Path
from typing import Any

from app.__main__ import main

tuning, target = sys.argv[1], Path(sys.argv[2])
del sys.argv[1:3]
pauses = [0.0]
began = 0.0
freeze = gc.freeze


def watch(phase: str, _info: dict[str, int]) -> None:
    global began  # noqa: PLW0603 -- one collector, one clock
    if phase == "start":
        began = time.perf_counter()
    else:
        pauses.append(time.perf_counter() - began)


def start() -> None:
    """In the place of `gc.freeze`: the server calls it when it takes connections."""
    pauses[:] = [0.0]
    if tuning == "tuned":
        freeze()


def keep(*_: Any) -> None:
    """In the place of `gc.set_threshold`."""


gc.freeze = start
if tuning == "plain":
    gc.set_threshold = keep
gc.callbacks.append(watch)
atexit.register(lambda: target.write_text(str(max(pauses) * 1000)))
main()
