"""What a client wants, and its ids."""

from app.simulator import client
from app.simulator.client import Client, Wanted
from tests.simulator.talk import FakeLine


def test_names_come_and_go() -> None:
    wanted = Wanted()
    wanted.add("BTC_USDT")
    assert wanted
    assert ("BTC_USDT" in wanted, "ETH_USDT" in wanted) == (True, False)
    wanted.remove("BTC_USDT")
    assert not wanted


def test_all_may_have_exceptions() -> None:
    wanted = Wanted()
    wanted.add("all")
    wanted.remove("BTC_USDT")
    assert ("BTC_USDT" in wanted, "ETH_USDT" in wanted) == (False, True)
    wanted.add("BTC_USDT")
    assert "BTC_USDT" in wanted
    assert wanted.listed() == ["all", "BTC_USDT"]
    wanted.remove("all")
    assert not wanted


def test_ids_are_watched() -> None:
    one = Client(1, FakeLine(), 0.0)
    faults = [one.fault_of_id(number) for number in (1000, 1001, 1000, 0, 4)]
    assert faults == [None, None, "duplicate id", "reserved id", "reserved id"]


def test_only_so_many_ids_are_remembered() -> None:
    one = Client(1, FakeLine(), 0.0)
    for number in range(1000, 1001 + client.IDS_REMEMBERED):
        assert one.fault_of_id(number) is None
    assert one.fault_of_id(1000) is None
