"""Pages of the console, one module for each topic."""

from __future__ import annotations

from fastapi import APIRouter

from api.console.routes import (
    audit,
    case_actions,
    case_evidence,
    cases,
    dashboard,
    enrol,
    held,
    login,
    platforms,
    queue,
    simulator,
    staff,
)


def routers() -> list[APIRouter]:
    """Return all routers of the console."""
    return [
        login.router,
        enrol.router,
        queue.router,
        held.router,
        cases.router,
        case_evidence.router,
        case_actions.router,
        platforms.router,
        dashboard.router,
        simulator.router,
        staff.router,
        audit.router,
    ]
