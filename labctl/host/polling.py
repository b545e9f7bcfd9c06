"""How often a lab is polled.

Polling without a pause slows the lab down: on two cores the polls take the CPU time that the work needs.
"""

from __future__ import annotations

#: Pause for REST times the response time, at most LONG seconds, or the response time if that is longer.
REST, LONG = 2, 5.0


def pause(took: float, interval: float) -> float:
    """Seconds to pause after a response.

    :param took: response time in seconds.
    :param interval: minimum pause in seconds.
    """
    return max(interval, min(REST * took, max(LONG, took)))
