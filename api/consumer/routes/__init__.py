"""Pages of /me, one module for each topic."""

from __future__ import annotations

from fastapi import APIRouter

from api.consumer.routes import cases, record


def routers() -> list[APIRouter]:
    """Return all routers of /me."""
    return [record.router, cases.router]
