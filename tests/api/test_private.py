"""Everything private: nobody has credentials yet."""

import pytest

from app.api.deps import Limits
from tests.api.harness import Gateway, is_problem

PATHS = [
    ("GET", "/v1/orders"),
    ("GET", "/v1/orders?symbol=BTC_USDT&state=open"),
    ("GET", "/v1/orders/01JZ"),
    ("GET", "/v1/balances"),
    ("GET", "/v1/balances/USDT"),
    ("GET", "/v1/deals"),
    ("POST", "/v1/tickets"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize("anonymous", [True, False])
async def test_wants_credentials(method: str, path: str, anonymous: bool) -> None:
    gateway = Gateway(limits=Limits(anonymous=anonymous))
    async with gateway.client() as client:
        response = await client.request(method, path)
    is_problem(response, 401, "not allowed")
    assert response.headers["www-authenticate"] == "Bearer"
    assert "no-store" in response.headers["cache-control"]
