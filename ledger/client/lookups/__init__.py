"""Lookups and checks of the SDK: the question that is sent, and the standing that is answered or computed here."""
