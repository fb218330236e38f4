"""Ctrl-C and SIGTERM as cancellation, for the commands that run until they are stopped."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """The first signal cancels the block, which then ends as if it had come to its end.

    A second one raises KeyboardInterrupt where it strikes, so that even a blocked write is left.
    For the main task of the main thread. Any other cancellation goes on as always.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    if task is None:
        raise RuntimeError("there is no task to stop")
    stopped = over = False

    def cancel() -> None:
        if not over:
            task.cancel()

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        if stopped:
            raise KeyboardInterrupt
        stopped = True
        loop.call_soon_threadsafe(cancel)

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    except asyncio.CancelledError:
        if not stopped:
            raise
        task.uncancel()
    finally:
        over = True
        for number, handler in before.items():
            signal.signal(number, handler)
