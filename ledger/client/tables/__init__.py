"""Delimited text tables: reading them strictly, writing tags, reading files of reports."""

from ledger.client.tables.reader import TableFormat

__all__ = ["TableFormat"]
