"""Tests of the commands: the program is put together once."""

from __future__ import annotations

from tests.commands import build_commands_once

build_commands_once()
