"""Method names of `RefundLedger` until version 0.2.0: they forward to the present ones, and warn."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Renamed(Generic[P, R]):
    """A method under its former name, with the signature of `function`, the present one.

    `function` is a method of `namespace`, an attribute of the client, or of the client itself (""). A call emits a
    DeprecationWarning that names the present method, and forwards.
    """

    def __init__(self, function: Callable[Concatenate[Any, P], R], namespace: str = "") -> None:
        self._function = function
        self._namespace = namespace
        self._name = ""
        self.__doc__ = f"Former name of `{self.new_name}`."

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @property
    def new_name(self) -> str:
        """The present name, such as `reports.create`."""
        return ".".join(filter(None, [self._namespace, self._function.__name__]))

    def __get__(self, client: Any, owner: type | None = None) -> Callable[P, R]:
        if client is None:  # for tools that list the members of a class
            return self._function  # type: ignore[return-value]

        target = getattr(client, self._namespace) if self._namespace else client
        present: Callable[P, R] = getattr(target, self._function.__name__)

        @wraps(present)
        def forward(*args: P.args, **kwargs: P.kwargs) -> R:
            warn_renamed(self._name, self.new_name, stacklevel=2)
            return present(*args, **kwargs)

        return forward


def warn_renamed(name: str, new_name: str, *, stacklevel: int) -> None:
    """Warn the caller's caller that `RefundLedger.name` is now called `new_name`."""
    text = f"RefundLedger.{name} is deprecated and goes with the next version: use {new_name}."
    warnings.warn(text, DeprecationWarning, stacklevel=stacklevel + 1)


def renamed_methods(client: type) -> dict[str, str]:
    """Return the former names of methods of the class `client`, each with the present name, in the order of the
    class."""
    return {name: member.new_name for name, member in vars(client).items() if isinstance(member, Renamed)}
