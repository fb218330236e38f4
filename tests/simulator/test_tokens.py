"""One-use tokens and the signature."""

import re

from app.simulator import tokens
from app.simulator.tokens import Tokens, sign, signed


def test_a_token_is_good_once() -> None:
    book = Tokens()
    token = book.issue(0.0)
    assert re.fullmatch("[0-9a-f]{64}", token)
    assert book.present(token, 1.0, 300.0) is None
    assert book.present(token, 2.0, 300.0) == "token reused"


def test_a_token_expires() -> None:
    book = Tokens()
    assert book.present(book.issue(0.0), 301.0, 300.0) == "expired token"


def test_only_so_many_tokens_are_remembered() -> None:
    book = Tokens()
    first = book.issue(0.0)
    for _ in range(tokens.REMEMBERED):
        book.issue(0.0)
    assert book.present(first, 1.0, 300.0) == "unknown token"
    assert book.issued == tokens.REMEMBERED + 1


def test_signatures_are_those_of_the_test_vector() -> None:
    body = b'{"market":"TRX_USDT","quantity":"20"}'
    assert sign(body, "fixture-api-key") == "7a25ed96c474b99df63c8caad23459bc"
    assert signed("7192c86862fa543f3d1e1f0c10d0d494", "fixture-api-key")
    assert not signed("", "fixture-api-key")
