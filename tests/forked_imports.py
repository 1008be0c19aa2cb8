"""What the fork server of `tests.forked` imports once, for all the processes that are forked from it."""

from __future__ import annotations

import gc

import sqlalchemy.orm
import uvicorn.lifespan.on
import uvicorn.loops.auto
import uvicorn.protocols.http.auto

import api.app
import ledger.cli.commands
import ledger.cli.demo
import ledger.cli.replay
import ledger.cli.serve
import ledger.service.publisher
import ledger.service.snapshotter

__all__ = ["api", "ledger", "uvicorn"]

sqlalchemy.orm.configure_mappers()
gc.freeze()
