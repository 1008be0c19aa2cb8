"""Output of commands: tables for people or JSON for machines, exit codes, errors in one line."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from datetime import datetime
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from ledger.cli import streams
from ledger.cli.exit_codes import ExitCode
from ledger.cli.tables import PIPE_COLUMNS, Facts, facts, harmless
from ledger.errors import ConfigurationError, InvalidInput, LedgerError, Unavailable
from ledger.extras import SERVER
from ledger.protocol.encoding import format_time

P = ParamSpec("P")
R = TypeVar("R")


class _Mode:
    json = False


def _set_json(value: bool) -> bool:
    if value:
        _Mode.json = True
    return value


JsonFlag = Annotated[bool, typer.Option("--json", callback=_set_json, is_eager=True, help="Print JSON for machines.")]


def reset(json_output: bool = False) -> None:
    """Set the form of the output at the start of a run."""
    _Mode.json = json_output


def json_asked() -> bool:
    """True if `--json` was given."""
    return _Mode.json


class Output(Console):
    """A console that does not cut lines at its right edge, and prints control characters as escapes, because names of
    files and texts of other people are printed. Output that is not a terminal is never wrapped."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False)
        if not self._has_edge():
            self.width = PIPE_COLUMNS

    def _has_edge(self) -> bool:
        """True if the output is a terminal. `FORCE_COLOR` alone, with which rich assumes a terminal, does not count."""
        if os.environ.get("TTY_COMPATIBLE") == "1":
            return True
        try:
            return self.file.isatty()
        except ValueError:  # closed
            return False

    def print(self, *objects: Any, crop: bool = False, **arguments: Any) -> None:
        """Print `objects`; by default lines are not cut."""
        super().print(*map(harmless, objects), crop=crop, **arguments)


def console() -> Console:
    """Return a console on standard output."""
    return Output()


def messages() -> Console:
    """Return a console on standard error, for progress and errors."""
    return Output(stderr=True)


def emit(value: Mapping[str, Any], show: Callable[[Console], None]) -> None:
    """Print `value` as one JSON document in UTF-8 if `--json` was given, else call `show`.

    Raises ConfigurationError if standard output is closed or full.
    """
    if _Mode.json:
        streams.write(json_document(value))
        return
    with streams.writing():
        show(console())


def json_document(value: Mapping[str, Any]) -> bytes:
    """Return `value` as one line of JSON in UTF-8. Characters that are not Unicode text, such as a byte of a file's
    name that is not UTF-8, are escaped."""
    try:
        return (json.dumps(value, ensure_ascii=False, default=str) + "\n").encode()
    except UnicodeEncodeError:
        return (json.dumps(value, default=str) + "\n").encode()


def complain(error: Mapping[str, Any]) -> None:
    """Print an error: with `--json` the document {"error": ...} on standard output, else its message on standard error.

    If standard output cannot be written, the message goes to standard error.
    """
    if _Mode.json:
        try:
            streams.write(json_document({"error": error}))
        except (ConfigurationError, OSError):
            pass
        else:
            return
    say(Text.assemble(("error: ", "bold red"), str(error["message"])))


def say(text: str | Text) -> None:
    """Print a line on standard error. Nothing happens if it cannot be written."""
    with suppress(OSError, ValueError):
        messages().print(text, soft_wrap=True)


def plain(value: Any) -> Any:
    """Return a result of the SDK as JSON values: dictionaries for dataclasses and structs, text for times."""
    if isinstance(value, msgspec.Struct):
        return {name: plain(member) for name, member in msgspec.structs.asdict(value).items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclass_fields(value)}
    if isinstance(value, datetime):
        return format_time(value)
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def digits_line(label: str, digits: str) -> str:
    """Return a fingerprint to be read aloud: the label, and half of its groups of digits on each of two lines."""
    groups = digits.split()
    half = len(groups) // 2
    return f"{label}: {' '.join(groups[:half])}\n{' ' * (len(label) + 2)}{' '.join(groups[half:])}"


def fields(pairs: Mapping[str, object]) -> Facts:
    """Return names and values, one on a line, without breaks in ids and keys."""
    return facts(pairs)


def elements(number: int) -> str:
    """Return a number of elements in words: `1 element`, `2,000 elements`."""
    return "1 element" if number == 1 else f"{number:,} elements"


def fail(exit_with: ExitCode, message: str, /, **details: object) -> NoReturn:
    """Print an error and exit with this code."""
    complain({"message": message, **details})
    raise typer.Exit(int(exit_with))


def exit_code(error: LedgerError) -> ExitCode:
    """Return the exit code of an error."""
    if isinstance(error, Unavailable):
        return ExitCode.UNAVAILABLE
    if isinstance(error, InvalidInput | ConfigurationError):
        return ExitCode.USAGE
    return ExitCode.REFUSED


def guarded(command: Callable[P, R]) -> Callable[P, R]:
    """Return `command` such that errors of the ledger and a missing extra or server become one line and an exit code.

    The function raises typer.Exit.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except LedgerError as error:
            if "extra" in error.details:
                fail(ExitCode.EXTRA_MISSING, str(error), code="extra_missing", **error.details)
            fail(exit_code(error), str(error), code=error.code, details=error.details)
        except ModuleNotFoundError as error:
            if not _is_of_server(error.name):
                raise
            fail_without_server("This command", str(error.name))

    return run


def fail_without_server(command: str, missing: str | None = None) -> NoReturn:
    """Report that `command` needs the server's distribution, and exit; `missing` is a module that it would install."""
    note = "" if missing is None else f" (missing: {missing})"
    fail(
        ExitCode.EXTRA_MISSING,
        f"{command} needs the server: pip install {SERVER}{note}.",
        code="extra_missing",
        distribution=SERVER,
    )


_SERVER_MODULES = frozenset(
    {
        "alembic", "argon2", "babel", "fastapi", "httptools", "jinja2", "multipart", "numpy", "orjson", "PIL",
        "prometheus_client", "psycopg", "pydantic_settings", "pyotp", "segno", "sqlalchemy", "starlette",
        "structlog", "uvicorn", "uvloop",
    }
)  # fmt: skip


def _is_of_server(module: str | None) -> bool:
    """True for a module that `refund-credit-ledger-server` installs."""
    return module is not None and module.partition(".")[0] in _SERVER_MODULES
