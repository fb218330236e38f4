from app.hub.status import Status
from tests.oracle.sse import read


def test_it_begins_down() -> None:
    status = Status()
    [block] = read([status.block])
    assert block.event == "gateway"
    assert block.json() == {
        "type": "status",
        "upstream": "down",
        "since": f"{round(status.since, 3)}",
    }


def test_a_change_is_told_in_a_new_version() -> None:
    status = Status()
    assert status.change("live", 12.3456)
    assert status.version == 1
    [block] = read([status.block])
    assert block.json() == {"type": "status", "upstream": "live", "since": "12.346"}


def test_what_is_known_changes_nothing() -> None:
    status = Status()
    status.change("live", 1.0)
    before = status.block
    assert not status.change("live", 1.0)
    assert (status.version, status.block) == (1, before)


def test_the_first_block_of_a_stream_tells_when_to_come_back() -> None:
    status = Status()
    status.change("live", 1.0)
    [block] = read([status.opening])
    assert block.retry == 2000
    assert block.json() == {"type": "status", "upstream": "live", "since": "1.0"}
