"""The yardstick for lookups: a plain FastAPI + SQLAlchemy endpoint that selects one row by key.

Nothing of the ledger but the table: no authentication, folding, logging of disclosures or padding. It is written as the
documentation of both libraries suggests: a sync route, a session a request, a response model.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from ledger.protocol.encoding import unb64url
from ledger.server.db.tables.reports import Listing


class Question(BaseModel):
    """One tag."""

    tag: str


class Answer(BaseModel):
    """One row."""

    report_id: int
    conduct: str
    act_day: int
    expires_day: int


def session(request: Request) -> Iterator[Session]:
    """A session a request."""
    with Session(request.app.state.engine) as opened:
        yield opened


def row(question: Question, db: Annotated[Session, Depends(session)]) -> Answer:
    """The row of a tag."""
    result = db.scalars(select(Listing).where(Listing.tag == unb64url(question.tag, 32))).first()
    if result is None:
        raise HTTPException(404)
    return Answer(
        report_id=result.report_id, conduct=result.conduct, act_day=result.act_day, expires_day=result.expires_day
    )


def create_app() -> FastAPI:
    """The application."""
    app = FastAPI()
    app.state.engine = create_engine(os.environ["REFUND_LEDGER_DATABASE_URL"], pool_size=10, max_overflow=10)
    app.post("/v1/rows")(row)
    return app
