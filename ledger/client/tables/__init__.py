"""Delimited text tables: reading them strictly, writing tags, reading files of reports."""
