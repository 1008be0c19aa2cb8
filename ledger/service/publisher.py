"""`python -m ledger.service.publisher`: the former name of `ledger.server.log.publisher`, for one version."""

from __future__ import annotations

from ledger.service.renamed import run_renamed

if __name__ == "__main__":
    run_renamed("ledger.service.publisher", "ledger.server.log.publisher")
