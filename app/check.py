"""``sluice check``: whether this installation can do its work, a line for everything wrong."""

import httpx

from app.errors import TokenRefused, UpstreamUnavailable
from app.main import rest_of
from app.settings import Settings


async def check(settings: Settings) -> list[str]:
    """Ask the exchange for what a start would ask for; each problem names its variable."""
    problems = []
    async with httpx.AsyncClient(trust_env=False) as client:
        rest = rest_of(settings, client)
        if settings.upstream_user_id is None:
            problems.append(
                "SLUICE_UPSTREAM_USER_ID, SLUICE_UPSTREAM_API_KEY: not set, "
                "and the exchange gives no socket without them"
            )
        else:
            try:
                await rest.token()
            except TokenRefused as error:
                problems.append(
                    "SLUICE_UPSTREAM_USER_ID, SLUICE_UPSTREAM_API_KEY, SLUICE_UPSTREAM_API_URL: "
                    f"no socket token: {error}"
                )
        try:
            markets = await rest.markets()
        except UpstreamUnavailable as error:
            problems.append(f"SLUICE_UPSTREAM_MARKETS_URL: no market list: {error}")
            return problems
        if not markets:
            problems.append("SLUICE_UPSTREAM_MARKETS_URL: the exchange lists no market at all")
            return problems
        if not markets:
            problems.append("SLUICE_UPSTREAM_MARKETS_URL: the market list is empty")
            return problems
        try:
            await rest.scales(markets[0]["symbol"])
        except UpstreamUnavailable as error:
            problems.append(f"SLUICE_UPSTREAM_SCALES_URL: no depth scales: {error}")
    return problems
