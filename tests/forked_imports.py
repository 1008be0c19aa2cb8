"""What the fork server of `tests.forked` imports once, for all the processes that are forked from it, and what the
framework works out about the application's routes."""

from __future__ import annotations

import gc

import fastapi.routing
import sqlalchemy.orm
import uvicorn.lifespan.on
import uvicorn.loops.auto
import uvicorn.protocols.http.auto

import api.app
import api.holder.app
import ledger.cli.commands
import ledger.cli.operator.holder_serve
import ledger.cli.operator.holder_service
import ledger.cli.operator.serve
import ledger.server.demo.demo
import ledger.server.demo.replay
import ledger.server.log.publisher
import ledger.server.snapshots.snapshotter
from ledger.server.settings import GivenSettings
from tests import shared_routes

__all__ = ["api", "ledger", "uvicorn"]

sqlalchemy.orm.configure_mappers()
shared_routes.share()
for route in api.app.create_app(GivenSettings()).routes:
    if isinstance(route, fastapi.routing._IncludedRouter):
        route.effective_candidates()
gc.freeze()
