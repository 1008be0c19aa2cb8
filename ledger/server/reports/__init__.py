"""Use cases on reports: intake, holding, erasure, receipts."""
