"""`command`: the decorator of every command. It adds what commands have in common, so that each states only its own
options: `--json`, groups of options, the open ledger, and errors in one line with an exit code."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from ledger.cli import output
from ledger.cli.options import LedgerOptions, OptionGroup
from ledger.client import RefundLedger

JSON_PARAMETER = inspect.Parameter(
    "json_output", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=output.JsonFlag
)


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Return `function` as typer takes it: with `--json`, and with the options of its groups.

    A parameter whose type is an `OptionGroup` becomes the options of that group. A parameter of type `RefundLedger`
    becomes `--suite`, `--key` and `--state-dir`; the ledger is open while the command runs. Errors of the ledger and a
    missing extra end the command as `output.guarded` says.
    """
    signature = inspect.signature(function, eval_str=True)
    groups = {
        name: group for name, parameter in signature.parameters.items() if (group := _group_of(parameter.annotation))
    }
    opened = [name for name, parameter in signature.parameters.items() if parameter.annotation is RefundLedger]
    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        parameters += groups[name].parameters() if name in groups else [parameter]
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in [*parameters, JSON_PARAMETER]]

    @functools.wraps(function)
    @output.guarded
    def run(**values: Any) -> None:
        del values[JSON_PARAMETER.name]
        with ExitStack() as stack:
            for name, group in groups.items():
                values[name] = group(**{option.name: values.pop(option.name) for option in group.parameters()})
            for name in opened:
                values[name] = stack.enter_context(values[name].open())
            function(**values)

    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": None}
    return run


def _group_of(annotation: Any) -> type[OptionGroup] | None:
    if annotation is RefundLedger:
        return LedgerOptions
    return annotation if isinstance(annotation, type) and issubclass(annotation, OptionGroup) else None
