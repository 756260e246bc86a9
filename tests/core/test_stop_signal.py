from __future__ import annotations

from realtime.core.stop_signal import StopSignal


def test_the_first_reason_wins() -> None:
    signal = StopSignal()
    assert not signal.over.is_set()
    error = ValueError("first")
    signal.fail(error)
    signal.finish("second")
    assert signal.over.is_set()
    assert (signal.reason, signal.error, signal.complete) == ("first", error, False)


def test_a_run_that_was_stopped_or_finished_has_failed_if_closing_fails() -> None:
    error = ValueError("the disk is full")
    for end in (StopSignal.finish, StopSignal.stop):
        signal = StopSignal()
        end(signal, "ended")
        signal.fail_closing(error)
        assert (signal.reason, signal.error) == ("ended", error)
    signal = StopSignal()
    signal.fail_closing(error)
    signal.fail_closing(ValueError("another"))
    assert signal.over.is_set()
    assert signal.error is error


def test_only_a_finished_run_is_complete() -> None:
    finished, stopped = StopSignal(), StopSignal()
    finished.finish("done")
    stopped.stop("interrupted")
    assert (finished.complete, stopped.complete) == (True, False)
    assert (finished.error, stopped.error) == (None, None)
