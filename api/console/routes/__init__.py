"""Pages of the console, one module for each topic."""

from __future__ import annotations

from fastapi import APIRouter

from api.console.routes import audit, case_actions, cases, login, queue, staff


def routers() -> list[APIRouter]:
    """All routers of the console."""
    return [
        login.router,
        staff.router,
        audit.router,
        queue.router,
        cases.router,
        case_actions.router,
    ]
