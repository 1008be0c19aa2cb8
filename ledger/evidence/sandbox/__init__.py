"""Inspection in child processes without files or sockets."""
