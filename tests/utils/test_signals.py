"""Signals that end a command: raised with their number, undone at the end, and left ignored where they are."""

import os
import signal
import threading

import pytest

from fastgan.utils.signals import Interrupted, interruptible


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_raised_with_its_number(number: signal.Signals) -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    with pytest.raises(Interrupted) as caught, interruptible():
        try:
            os.kill(os.getpid(), number)
            signal.pause()
        except Interrupted as stop:
            stop.add_note("2 of 3 are done")
            raise
    assert caught.value.exit_code == 128 + number and str(caught.value) == "interrupted; 2 of 3 are done"
    assert {each: signal.getsignal(each) for each in before} == before


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_sets_no_handlers() -> None:
    failures: list[BaseException] = []

    def use() -> None:
        try:
            with interruptible():
                pass
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert failures == []
