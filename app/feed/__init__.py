"""The pipe: lead() = lease → pool → sequencer → broker, follow() = broker → store → hub.

Every process follows; the one that leads also runs the upstream. There is no short cut between the
two: the leader's own clients are served through the broker.
"""

from app.feed.follow import Replica, follow
from app.feed.lead import Upstream, lead

__all__ = ["Replica", "Upstream", "follow", "lead"]
