"""Blinded evaluation within budgets."""
