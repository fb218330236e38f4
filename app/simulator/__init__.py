"""The exchange, simulated: token endpoint, REST and WebSocket on one port, faults on demand.

Written from protocol.md alone; it imports nothing of the gateway, so that one side's misreading
of the protocol cannot hide the other's.
"""

from app.simulator.server import Simulator, serve
from app.simulator.switches import Options, SwitchError, Switches

__all__ = ["Options", "Simulator", "SwitchError", "Switches", "serve"]
