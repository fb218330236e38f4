"""A terminal that a program writes to."""

import os
from collections.abc import Callable


def read_until(terminal: int, done: Callable[[bytes], bool]) -> bytes:
    """What a program writes to its terminal, until ``done`` or its end."""
    screen = b""
    while not done(screen):
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # how Linux tells that the other side is closed
            break
        screen += piece
    return screen
