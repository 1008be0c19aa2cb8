"""Standard input and output as bytes, with errors in one line."""

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
    """The file, or standard input for `-`. Raises ConfigurationError when standard input is closed."""
    if str(path) != "-":
        return path
    buffer: BinaryIO | None = getattr(sys.stdin, "buffer", None)
    if buffer is None or buffer.closed:
        raise ConfigurationError("Standard input is closed.")
    return buffer


@contextmanager
def writing() -> Iterator[None]:
    """Turns failures of standard output into ConfigurationError: closed, full, or in an encoding without a character.

    A reader that ends early (`| head`) is left to the caller.
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
    """Let the rest of standard output go nowhere, so that Python does not fail once more on it at its end."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def write(data: bytes) -> None:
    """Write bytes to standard output, whatever the encoding of the locale is. Raises ConfigurationError."""
    with writing():
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
