import asyncio
import os
import signal

import pytest

from app.stopping import stopped_by_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_the_block_quietly(number: int) -> None:
    before = signal.getsignal(number)
    ended = False
    async with asyncio.timeout(5):
        with stopped_by_signals():
            try:
                os.kill(os.getpid(), number)
                await asyncio.Event().wait()
            finally:
                ended = True
        await asyncio.sleep(0)  # nothing of the cancellation is left over
    assert ended
    assert signal.getsignal(number) is before


async def test_a_second_signal_strikes_where_it_comes() -> None:
    with pytest.raises(KeyboardInterrupt), stopped_by_signals():  # noqa: PT012  # two signals
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


async def test_another_cancellation_goes_on() -> None:
    async def block() -> None:
        with stopped_by_signals():
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(block())
        await asyncio.sleep(0)
        task.cancel()
    assert task.cancelled()


def test_it_wants_a_task() -> None:
    loop = asyncio.new_event_loop()
    caught: list[str] = []

    def call() -> None:
        try:
            with stopped_by_signals():
                pass
        except RuntimeError as error:
            caught.append(str(error))
        loop.stop()

    loop.call_soon(call)
    loop.run_forever()
    loop.close()
    assert caught == ["there is no task to stop"]
