"""What tests of streams are given."""

from collections.abc import Callable

import pytest

from app.domain.store import Store
from app.hub.hub import Hub, HubOptions
from app.telemetry import Metrics
from tests.hub.place import Place


@pytest.fixture(name="make")
def _make() -> Callable[..., Place]:
    return lambda **options: Place(Hub(Store(), HubOptions(**options), Metrics()))


@pytest.fixture(name="place")
async def _place(make: Callable[..., Place]) -> Place:
    return make()
