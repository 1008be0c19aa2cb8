"""Evaluation by key holders: cards, tokens, the exchange with each holder, and shares of t of n."""
