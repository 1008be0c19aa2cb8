"""Tests of the pages in a real browser. A package, so that all of them can share one browser."""
