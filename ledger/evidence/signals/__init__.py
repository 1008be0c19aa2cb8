"""Signals of origin in the metadata of a file: labels, C2PA claims, traces of generators, hints of editing."""
