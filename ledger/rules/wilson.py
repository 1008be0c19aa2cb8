"""How sure a share is that was counted: the score interval of E. B. Wilson (JASA 22, 1927, pages 209 to 212)."""

from __future__ import annotations

from math import sqrt

Z_95 = 1.959963984540054
"""The normal quantile of a two-sided 95 % interval."""


def wilson_interval(hits: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Return the bounds of the share of which `hits` in `trials` were seen; (0, 1) if there was no trial.

    Unlike the textbook interval it never leaves 0 to 1 and does not claim certainty for 0 of 3. Raises ValueError
    unless 0 <= hits <= trials.
    """
    if not 0 <= hits <= trials:
        raise ValueError("hits are among the trials")
    if trials == 0:
        return 0.0, 1.0
    share, square = hits / trials, z * z
    middle = share + square / (2 * trials)
    spread = z * sqrt(share * (1 - share) / trials + square / (4 * trials * trials))
    whole = 1 + square / trials
    low = 0.0 if hits == 0 else (middle - spread) / whole
    high = 1.0 if hits == trials else (middle + spread) / whole
    return low, high
