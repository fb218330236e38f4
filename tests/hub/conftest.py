"""What tests of streams are given."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from app.domain.store import Store
from app.hub.hub import Hub, HubOptions
from app.telemetry import Metrics
from tests.hub.place import Place


@pytest.fixture(name="make")
def _make() -> Iterator[Callable[..., Place]]:
    with ExitStack() as held:
        yield lambda **options: Place(Hub(Store(), HubOptions(**options), Metrics()), held)


@pytest.fixture(name="place")
async def _place(make: Callable[..., Place]) -> Place:
    return make()
