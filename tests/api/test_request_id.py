"""What a request is called."""

import re

import pytest

from app.api.request_id import identify


@pytest.mark.parametrize(
    "asked",
    [b"a", b"a1" * 16, b"f:4/e~1+x.y_z-1", b"a" * 128],
)
def test_as_the_client_calls_it(asked: bytes) -> None:
    assert identify(asked) == asked


@pytest.mark.parametrize(
    "asked",
    [None, b"", b"a" * 129, b"a b", b"a\n", b"\xc3\xa4", b"a,b", b"token=a", b'"a"', b"a\x00"],
)
def test_by_a_name_of_its_own_if_that_cannot_be_taken(asked: bytes | None) -> None:
    one, other = identify(asked), identify(asked)
    assert one != other
    assert re.fullmatch(rb"[0-9a-f]{8}-[0-9a-f]+", one)
    assert identify(one) == one, "what is made here can be taken by the next service"
