"""Databases: engines, connections, tables, migrations."""
