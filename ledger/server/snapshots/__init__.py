"""Snapshots on the server: built, published and served."""
