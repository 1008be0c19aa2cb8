"""Standard input and output as bytes; their failures become ConfigurationError."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ledger.errors import ConfigurationError


def source(path: Path) -> Path | BinaryIO:
    """Return the path, or standard input for `-`. Raises ConfigurationError if standard input is closed."""
    if str(path) != "-":
        return path
    buffer: BinaryIO | None = getattr(sys.stdin, "buffer", None)
    if buffer is None or buffer.closed:
        raise ConfigurationError("Standard input is closed.")
    return buffer


@contextmanager
def writing() -> Iterator[None]:
    """Turn failures of standard output into ConfigurationError: closed, disk full, or an encoding that lacks a
    character.

    A broken pipe (`| head`) is raised as OSError.
    """
    if sys.stdout is None:
        raise ConfigurationError("Standard output is closed.")
    try:
        yield
        sys.stdout.flush()
    except UnicodeEncodeError:
        problem = "Standard output has an encoding that lacks a character of the text; set PYTHONUTF8=1."
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            raise
        problem = "Standard output cannot be written; is it closed, or the disk full?"
    else:
        return
    _give_up_output()
    raise ConfigurationError(problem) from None


def _give_up_output() -> None:
    """Discard the rest of standard output, so that Python does not fail again when it flushes the stream at exit."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def write(data: bytes) -> None:
    """Write bytes to standard output, independent of the encoding of the locale. Raises ConfigurationError."""
    with writing():
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
