"""An online linear fit of durations by size: t = a n + b."""

from __future__ import annotations


class LinearFit:
    """Least squares with exponentially decaying weights.

    Neither term is negative. While all observations are of one size, the duration is taken as
    proportional to the size.

    Args:
        decay: the share of its weight that an observation loses with each later observation.
    """

    def __init__(self, decay: float = 0.02) -> None:
        self._keep = 1.0 - decay
        self._weight = self._n = self._nn = self._t = self._nt = 0.0
        self._slope = self._intercept = 0.0

    @property
    def observed(self) -> bool:
        """Whether there was any observation."""
        return self._weight > 0.0

    def observe(self, size: float, seconds: float) -> None:
        """Add the duration of one batch or request."""
        keep = self._keep
        self._weight = self._weight * keep + 1.0
        self._n = self._n * keep + size
        self._nn = self._nn * keep + size * size
        self._t = self._t * keep + seconds
        self._nt = self._nt * keep + size * seconds
        # Predictions are asked for much more often.
        self._slope, self._intercept = self._terms()

    def predict(self, size: float) -> float:
        """The duration in seconds of a size; 0 without data."""
        return self._slope * size + self._intercept

    def _terms(self) -> tuple[float, float]:
        """The slope a, in seconds per unit, and the intercept b, in seconds."""
        spread = self._weight * self._nn - self._n * self._n
        if spread > 1e-9 * self._weight * self._nn:
            slope = (self._weight * self._nt - self._n * self._t) / spread
            intercept = (self._t - slope * self._n) / self._weight
            if slope >= 0.0 and intercept >= 0.0:
                return slope, intercept
            if slope < 0.0:
                return 0.0, self._t / self._weight
        return (self._nt / self._nn if self._nn else 0.0), 0.0
