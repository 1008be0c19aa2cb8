"""Former names of two processes, `python -m ledger.service.publisher` and `.snapshotter`, kept for one version."""
