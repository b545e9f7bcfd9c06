"""How often a lab is asked whether something has come about.

Whoever is asked again at once is slower still: on two cores the questions take the time that the answer needs.
"""

from __future__ import annotations

#: How many times as long as an answer took to leave the lab alone; after so many seconds once as long is enough.
REST, LONG = 2, 5.0


def pause(took: float, interval: float) -> float:
    """Seconds to leave the lab alone after an answer.

    :param took: seconds that the answer took.
    :param interval: seconds to leave it alone at least.
    """
    return max(interval, min(REST * took, max(LONG, took)))
