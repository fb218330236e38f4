"""Which ids spans have."""

from app.traces.ids import Ids, Name, names
from tests.given import at


def test_a_position_is_named_alike_everywhere_and_unlike_any_other() -> None:
    found = [names(at(f"{epoch}-{number}")) for epoch in (7, 8) for number in range(500)]
    assert found == [names(at(f"{epoch}-{number}")) for epoch in (7, 8) for number in range(500)]
    assert len({frame.trace for frame, _ in found}) == 1000
    assert len({name.span for pair in found for name in pair}) == 2000
    assert all(frame.trace == append.trace for frame, append in found)
    assert all(0 < name.trace < 2**128 and 0 < name.span < 2**64 for pair in found for name in pair)


def test_samplers_find_the_ids_random() -> None:
    """They look at the lower bits, and positions differ there alone."""
    traces = [names(at(f"7-{number}"))[0].trace for number in range(4000)]
    assert 900 < sum(trace % 2**56 < 2**54 for trace in traces) < 1100


def test_a_span_is_named_only_where_it_is_asked_for() -> None:
    ids = Ids()
    with ids.named(Name(1, 2)):
        assert (ids.generate_trace_id(), ids.generate_span_id()) == (1, 2)
    assert ids.generate_trace_id() > 1000
    ids.choose(3)
    with ids.named(Name(1, 2)):
        assert ids.generate_trace_id() == 1
    assert ids.generate_span_id() > 1000
    assert ids.generate_trace_id() == 3
    assert ids.generate_trace_id() > 1000, "once"
    assert ids.generate_span_id() != ids.generate_span_id()
