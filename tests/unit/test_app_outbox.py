"""Wake-ups leave after the answer, in order, and never hold anybody up."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from runyard.app.outbox import Outbox
from runyard.engine.run import Wake


def wake(run_id: str) -> Wake:
    return Wake(run_id=run_id, queue="default")


def test_wake_ups_are_sent_in_the_order_they_came() -> None:
    sent: list[str] = []
    outbox = Outbox(lambda wakes: sent.extend(each.run_id for each in wakes))
    for number in range(100):
        outbox([wake(str(number))])
    assert outbox.flush()
    assert sent == [str(number) for number in range(100)]


def test_a_broker_that_hangs_holds_nobody_up_and_a_full_outbox_drops() -> None:
    hang, sent = threading.Event(), []

    def send(wakes: Sequence[Wake]) -> None:
        hang.wait(10)
        sent.extend(wakes)

    outbox = Outbox(send, most_waiting=5)
    for number in range(50):
        outbox([wake(str(number))])
    assert not outbox.flush(timeout_s=0.01)
    hang.set()
    assert outbox.flush()
    assert 5 <= len(sent) <= 7


def test_a_failure_of_one_message_does_not_stop_the_next() -> None:
    sent: list[str] = []

    def send(wakes: Sequence[Wake]) -> None:
        if wakes[0].run_id == "bad":
            raise RuntimeError("no")
        sent.append(wakes[0].run_id)

    outbox = Outbox(send)
    outbox([wake("bad")])
    outbox([wake("good")])
    assert outbox.flush()
    assert sent == ["good"]
