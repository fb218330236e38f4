"""Sluice: a WebSocket-to-REST/SSE gateway for exchange market data."""

from importlib.metadata import version

__version__ = version("sluice")
