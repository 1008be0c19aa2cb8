"""Pages of the console, one module for each topic."""

from __future__ import annotations

from fastapi import APIRouter

from api.console.routes import audit, dashboard, login, platforms, simulator, staff


def routers() -> list[APIRouter]:
    """All routers of the console."""
    return [login.router, staff.router, audit.router, platforms.router, dashboard.router, simulator.router]
