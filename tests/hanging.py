"""A test that hangs shows where: all stacks are printed after a time.

pytest's own `faulthandler_timeout` starts a thread for each test and waits for its end: on a busy machine half a
millisecond of a test that takes one. Here the timer goes on from test to test, and is set anew only now and then.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import time

import pytest

HANGING_SECONDS = 300.0
"""How long a test runs, at most, until the stacks are printed."""
RENEWED_SECONDS = 30.0
"""The largest age of the timer in seconds at the start of a test, by which it may fire earlier than
`HANGING_SECONDS`."""


class HangWatch:
    """A plugin for pytest that prints all stacks when a test hangs. pytest's own prints them when the interpreter
    crashes."""

    def __init__(self) -> None:
        assert sys.__stderr__ is not None
        self._errors = os.dup(sys.__stderr__.fileno())  # a copy that capturing does not redirect
        self._set_at = -RENEWED_SECONDS

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        """Set the timer unless it is new."""
        now = time.monotonic()
        if now - self._set_at >= RENEWED_SECONDS:
            self._set_at = now
            faulthandler.dump_traceback_later(HANGING_SECONDS, file=self._errors)

    @pytest.hookimpl(tryfirst=True)
    def pytest_enter_pdb(self) -> None:
        """Stop the timer while a developer looks around; the next test sets it."""
        self._stop()

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        """Stop the timer for good."""
        self._stop()

    def _stop(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        self._set_at = -RENEWED_SECONDS
