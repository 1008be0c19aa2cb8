"""Dependencies of routes: the runtime, and the member platform of the token."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends
from starlette.requests import Request

from api.auth import authenticate
from ledger.errors import ScopeMissing
from ledger.server.appeals.platform import Caller
from ledger.server.platforms.members import Member
from ledger.server.runtime import Runtime


def runtime(request: Request) -> Runtime:
    """Return the open resources of this process."""
    return cast(Runtime, request.app.state.runtime)


async def _with_report(request: Request) -> Member:
    return authenticate(request, "report")


async def _with_lookup(request: Request) -> Member:
    return authenticate(request, "lookup")


async def _with_either(request: Request) -> Member:
    return authenticate(request, "lookup", "report")


async def _with_appeal_or_report(request: Request) -> Member:
    return authenticate(request, "appeal", "report")


async def _with_appeal(request: Request) -> Member:
    return authenticate(request, "appeal")


async def _with_case(request: Request) -> Caller:
    try:
        return Caller(authenticate(request, "appeal"), for_person=True)
    except ScopeMissing:
        return Caller(authenticate(request, "appeal", "report"), for_person=False)


Reporter = Annotated[Member, Depends(_with_report)]
"""A member whose token has the scope `report`. It is a dependency, so that it is checked before any parameter."""

Inquirer = Annotated[Member, Depends(_with_lookup)]
"""A member whose token has the scope `lookup`."""

Blinder = Annotated[Member, Depends(_with_either)]
"""A member whose token has the scope `lookup` or `report`."""

Subscriber = Annotated[Member, Depends(_with_appeal_or_report)]
"""A member whose token has the scope `appeal` or `report`."""

Appellant = Annotated[Member, Depends(_with_appeal)]
"""A member whose token has the scope `appeal`: it may act for its customers."""

CaseParty = Annotated[Caller, Depends(_with_case)]
"""A member in an appeal: the scope `appeal`, or `report` for its own reports only."""
