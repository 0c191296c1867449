"""How much a count can say: Wilson intervals, honest at 0 of n too, where the normal one has no width."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Mean", "Rate", "bootstrap_mean", "wilson"]


@dataclass(frozen=True)
class Rate:
    """`count` of `n`, with the interval [`low`, `high`] for the rate behind them, all in 0..1."""

    count: int
    n: int
    low: float
    high: float

    @property
    def rate(self) -> float:
        """The observed share; 0.0 when nothing was observed, where only the interval tells the truth."""
        return self.count / self.n if self.n else 0.0

    def format(self) -> str:
        """Like `3/96 = 3.1 % [1.1, 8.8]`, or `0/0 = no data`."""
        if not self.n:
            return "0/0 = no data"
        return f"{self.count}/{self.n} = {100 * self.rate:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"

    def __str__(self) -> str:
        return self.format()


def wilson(count: int, n: int, confidence: float = 0.95) -> Rate:
    """The Wilson score interval of `count` successes in `n` trials (E. B. Wilson, JASA 22, 1927).

    Overlapping intervals do not prove two rates equal: this many prompts cannot tell them apart.

    Args:
        count: How many of the `n` had the property, 0 to `n`.
        n: How many were looked at. Nothing looked at gives the interval 0..1.
        confidence: Coverage of the interval, strictly between 0 and 1.

    Raises:
        ValueError: If the numbers cannot be a count of trials: a bug in the caller, no user's mistake.
    """
    if not 0 <= count <= n:
        raise ValueError(f"count must be within 0..n, got {count} of {n}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    if n == 0:
        return Rate(0, 0, 0.0, 1.0)
    # Imported late: scipy.stats takes a second, and most commands need no interval. It ships no types.
    from scipy.stats import binomtest

    interval = binomtest(count, n).proportion_ci(confidence_level=confidence, method="wilson")
    return Rate(count, n, float(interval.low), float(interval.high))


@dataclass(frozen=True)
class Mean:
    """A mean over `n` observations with a bootstrap interval [`low`, `high`], in the unit of the observations."""

    mean: float
    n: int
    low: float
    high: float

    def format(self) -> str:
        """Like `0.031 [0.024, 0.040]`."""
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def __str__(self) -> str:
        return self.format()


def bootstrap_mean(values: Sequence[float], *, seed: int, confidence: float = 0.95) -> Mean:
    """The mean with its percentile-bootstrap interval (Efron 1979), 2000 resamples.

    Args:
        values: at least one observation.
        seed: of the resampling.
        confidence: coverage of the interval.

    Raises:
        ValueError: there are no values. That is a bug in the caller.
    """
    if not values:
        raise ValueError("a mean needs at least one value")
    mean = sum(values) / len(values)
    if len(set(values)) == 1:  # scipy cannot resample what does not vary
        return Mean(mean, len(values), mean, mean)
    import numpy
    from scipy.stats import bootstrap  # slow to import

    result = bootstrap(
        (numpy.asarray(values),),
        numpy.mean,
        n_resamples=2000,
        confidence_level=confidence,
        method="percentile",
        rng=numpy.random.default_rng(seed),
    )
    interval = result.confidence_interval
    return Mean(mean, len(values), float(interval.low), float(interval.high))
