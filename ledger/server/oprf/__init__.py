"""Evaluation of blinded elements within budgets."""
