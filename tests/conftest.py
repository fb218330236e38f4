"""No event loop but those that tests run in.

pytest-asyncio asks for the current loop before the first test has one; where none was ever set,
that makes one which nobody closes.
"""

import asyncio

asyncio.set_event_loop(None)
