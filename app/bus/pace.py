"""How often the account may ask for a socket token, paced over all processes through Redis."""

from app.bus.link import Link
from app.bus.scripts import LEAVE
from app.errors import BrokerUnavailable

INTERVAL = 6.0
"""Seconds between tokens in the long run: ten a minute."""
BURST = 5
"""Tokens that may be asked for at once after a pause."""
AWAY = 1.0
"""Seconds after which to ask again while Redis is away: nothing could be published anyway."""


class SharedPace:
    """The pace of one account."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def leave(self) -> float:
        """Take leave to ask for a token and give 0, or the seconds after which to ask again."""
        try:
            wait = await self._link.run(LEAVE, ("tokens",), round(INTERVAL * 1000), BURST)
        except BrokerUnavailable:
            return AWAY
        return int(wait) / 1000
