"""An interrupt of the demo that got lost in a callback still ends it."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from rich.console import Console

from tallykeeper.cli.demo_run import Demo, noting_interrupts
from tallykeeper.cli.output.progress import Work


@contextmanager
def lost_interrupts() -> Iterator[None]:
    """Have SIGINT handled by what does nothing."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_step_in_which_an_interrupt_was_lost_is_the_last() -> None:
    shown = io.StringIO()
    with lost_interrupts(), noting_interrupts() as interrupted:
        demo = Demo(Console(file=shown), [], interrupted, Work("demo"))
        with demo._step("first") as outcome:
            outcome.append("done")
        with pytest.raises(KeyboardInterrupt), demo._step("second"):
            os.kill(os.getpid(), signal.SIGINT)
        assert not interrupted(), "it is said once"
    assert "first: done" in shown.getvalue()
    assert "second:" not in shown.getvalue()


def test_other_signals_are_no_interrupt() -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with noting_interrupts() as interrupted:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert not interrupted()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert signal.set_wakeup_fd(-1) == -1


def test_what_python_ignores_is_reported_unless_it_is_an_interrupt(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(KeyboardInterrupt):
        pass

    Interrupted.__name__ = "DagsterExecutionInterruptedError"
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)

    class Raising:
        def __init__(self, error: BaseException) -> None:
            self.error = error

        def __del__(self) -> None:
            raise self.error

    with noting_interrupts():
        Raising(Interrupted())
        assert capsys.readouterr().err == ""
        Raising(ValueError("lost"))
        assert "lost" in capsys.readouterr().err
    assert sys.unraisablehook is sys.__unraisablehook__
