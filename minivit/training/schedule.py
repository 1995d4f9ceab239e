"""The learning rate over time: up in a line, down along a cosine."""

import math
from collections.abc import Callable

from minivit.engine.errors import ConfigError

Schedule = Callable[[int], float]


def warmup_cosine(peak: float, steps: int, warmup: float = 0.1, floor: float = 0.0) -> Schedule:
    """The rate for step 0 … steps − 1: a line from near 0 to `peak` over the first share `warmup`, a half cosine to `floor`.

    Raises `ConfigError` for an impossible share or count.
    """
    if steps < 1 or not 0 <= warmup <= 1:
        raise ConfigError(f"warmup_cosine: steps {steps} must be at least 1 and warmup {warmup} a share in [0, 1]")
    rising = round(warmup * steps)

    def rate(step: int) -> float:
        if step < rising:
            return peak * (step + 1) / rising
        done = min(1.0, (step - rising) / max(1, steps - rising))
        return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * done))

    return rate
