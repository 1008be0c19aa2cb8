"""`python -m ledger.service.snapshotter`: the former name of `ledger.server.snapshots.snapshotter`, for one version."""

from __future__ import annotations

from ledger.service.renamed import run_renamed

if __name__ == "__main__":
    run_renamed("ledger.service.snapshotter", "ledger.server.snapshots.snapshotter")
