"""Snapshots, pure: manifest, sealed buckets, the local filter, and the standing that is folded from sealed entries."""
