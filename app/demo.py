"""``sluice demo``: a simulated exchange and the gateway in one process, without any set-up."""

import secrets
from typing import TextIO

from pydantic import SecretStr

from app import simulator
from app.server import serve
from app.settings import MEMORY, read_settings
from app.sockets import listen

_EXAMPLES = """
Sluice is serving a simulated exchange. Try, in another terminal:

  curl -N '{url}/v1/stream?channels=ticker:BTC_USDT,trade:BTC_USDT'
  curl '{url}/v1/depth/BTC_USDT?limit=5'
  {command} tail 'lastprice:*' depth:BTC_USDT:0 --url {url}

In a browser: {url}/docs       Stop with Ctrl-C.
"""


async def demo(host: str, port: int, out: TextIO, *, command: str = "sluice") -> int:
    """Run both until told to stop; the gateway's exit status.

    Raises OSError for a taken port, and SettingsError.

    ``command`` is how this program was called, for the examples that go to ``out``.
    """
    with listen(host, port) as sock:
        exchange = simulator.Options(port=0, user_id="demo", api_key=secrets.token_hex())
        async with simulator.Simulator(exchange) as running:
            settings = read_settings(
                broker_url=MEMORY,
                role="all",
                upstream_ws_url=running.ws_url,
                upstream_api_url=running.url,
                upstream_markets_url=running.url,
                upstream_scales_url=running.url,
                upstream_user_id=SecretStr(exchange.user_id),
                upstream_api_key=SecretStr(exchange.api_key),
            )
            url = f"http://{host}:{sock.getsockname()[1]}"
            out.write(_EXAMPLES.format(url=url, command=command))
            out.flush()
            return await serve(settings, sock)
