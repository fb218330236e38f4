"""The id of a request: the client's own ``X-Request-ID``, or one made here.

It stands in the answer and in every log line told meanwhile. One that is made is not random: it
names a request among those of a deployment, and opens nothing.
"""

import re
import secrets
from itertools import count

FIELD = b"x-request-id"

_accepted = re.compile(rb"[A-Za-z0-9._~+/:-]{1,128}").fullmatch
_process = secrets.token_hex(4).encode()
_numbers = count(1)


def identify(asked: bytes | None = None) -> bytes:
    """What to call a request: as the client ``asked`` for, if that can be taken."""
    if asked is not None and _accepted(asked) is not None:
        return asked
    return b"%b-%x" % (_process, next(_numbers))
