"""Ledgers that earlier versions made, and what they said of each person."""
