"""Snapshots in the SDK: fetched, verified and cached."""
