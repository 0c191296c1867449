"""How much figures can say: intervals for rates, means and differences, tests of change, and the power of n."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "Difference",
    "McNemar",
    "Mean",
    "Rate",
    "bootstrap_mean",
    "detectable",
    "mcnemar",
    "newcombe",
    "newcombe_paired",
    "paired_bootstrap",
    "power",
    "wilson",
]


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
    """A mean over `n` observations with a bootstrap interval [`low`, `high`], in the unit of the observations.

    `seed` is that of the resampling; None where the observations do not vary, or a record does not say.
    """

    mean: float
    n: int
    low: float
    high: float
    seed: int | None = None

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
    return Mean(mean, len(values), float(interval.low), float(interval.high), seed)


@dataclass(frozen=True)
class Difference:
    """A difference with its interval [`low`, `high`], and what stands behind it.

    Attributes:
        value: second minus first, in the unit of what was compared.
        low: lower end of the interval.
        high: upper end of the interval.
        n: observations of the first; of both where they are paired.
        n_second: observations of the second.
        method: how the interval was found.
        seed: of the resampling; None where nothing was drawn.
    """

    value: float
    low: float
    high: float
    n: int
    n_second: int
    method: str
    seed: int | None = None

    @property
    def tells(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0

    def format(self) -> str:
        """Like `-0.200 [-0.334, -0.052] (Newcombe, n = 70 and 80)`."""
        n = f"{self.n}" if self.n == self.n_second else f"{self.n} and {self.n_second}"
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}] ({self.method}, n = {n}{seed})"

    def __str__(self) -> str:
        return self.format()


@dataclass(frozen=True)
class McNemar:
    """What changed between two looks at the same prompts, and how likely so lopsided a change is by chance.

    Attributes:
        n: prompts, most of which tell nothing because nothing changed.
        lost: had the property before and not after.
        gained: have it after and not before.
        p: two-sided, exact.
    """

    n: int
    lost: int
    gained: int
    p: float


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> McNemar:
    """The exact McNemar test (Psychometrika 12, 1947): of the pairs that changed, half would change either way.

    Fewer than six changed pairs can never give p < 0.05, however large n is.

    Raises:
        ValueError: the two are not the same length: a bug in the caller.
    """
    pairs = list(zip(before, after, strict=True))
    lost, gained = sum(b and not a for b, a in pairs), sum(a and not b for b, a in pairs)
    if lost + gained == 0:
        return McNemar(len(pairs), 0, 0, 1.0)
    from scipy.stats import binomtest  # slow to import

    return McNemar(len(pairs), lost, gained, float(binomtest(lost, lost + gained, 0.5).pvalue))


def paired_bootstrap(
    before: Sequence[float], after: Sequence[float], *, seed: int, confidence: float = 0.95
) -> Difference:
    """The mean of after - before over the same prompts, with its percentile-bootstrap interval over prompts.

    Raises:
        ValueError: there are no pairs, or one side has more: a bug in the caller.
    """
    mean = bootstrap_mean([a - b for b, a in zip(before, after, strict=True)], seed=seed, confidence=confidence)
    return Difference(mean.mean, mean.low, mean.high, mean.n, mean.n, "paired bootstrap", seed)


def newcombe(first: Rate, second: Rate) -> Difference:
    """The difference of two rates over different prompts, second - first, from their own Wilson intervals.

    Newcombe's hybrid score interval (Statistics in Medicine 17, 1998, 873-890, method 10). Unlike the normal one it
    stays within -1..1 and keeps its width where a rate is 0 or 1. The confidence is that of the two rates.
    """
    low, high = _newcombe(first, second, 0.0)
    return Difference(second.rate - first.rate, low, high, first.n, second.n, "Newcombe")


def newcombe_paired(before: Sequence[bool], after: Sequence[bool], confidence: float = 0.95) -> Difference:
    """The difference of two rates over the same prompts, after - before.

    Newcombe's score interval for paired data (Statistics in Medicine 17, 1998, 2635-2650, method 10): as `newcombe`,
    narrowed by the correlation of the pairs, which is corrected for continuity where it is positive.

    Raises:
        ValueError: the two are not the same length: a bug in the caller.
    """
    pairs = list(zip(before, after, strict=True))
    n = len(pairs)
    both, neither = sum(b and a for b, a in pairs), sum(not b and not a for b, a in pairs)
    lost, gained = sum(b and not a for b, a in pairs), sum(a and not b for b, a in pairs)
    first, second = wilson(both + lost, n, confidence), wilson(both + gained, n, confidence)
    margins = (both + lost) * (gained + neither) * (both + gained) * (lost + neither)
    cross = both * neither - lost * gained
    phi = (max(cross - n / 2, 0.0) if cross > 0 else cross) / margins**0.5 if margins else 0.0
    low, high = _newcombe(first, second, phi)
    return Difference(second.rate - first.rate, low, high, n, n, "Newcombe, paired")


def _newcombe(first: Rate, second: Rate, phi: float) -> tuple[float, float]:
    if not first.n or not second.n:
        return -1.0, 1.0
    down_1, up_1 = first.rate - first.low, first.high - first.rate
    down_2, up_2 = second.rate - second.low, second.high - second.rate
    value = second.rate - first.rate
    below = max(down_2**2 - 2 * phi * down_2 * up_1 + up_1**2, 0.0) ** 0.5
    above = max(up_2**2 - 2 * phi * up_2 * down_1 + down_1**2, 0.0) ** 0.5
    return max(value - below, -1.0), min(value + above, 1.0)


def power(n: int, first: float, second: float, confidence: float = 0.95) -> float:
    """The chance that `n` prompts each tell two rates apart (two-sided z test of independent proportions).

    Normal approximation (Fleiss, Statistical Methods for Rates and Proportions, without continuity correction).
    """
    if n <= 0:
        return 0.0
    from scipy.stats import norm  # slow to import

    pooled = (first + second) / 2
    spread = ((first * (1 - first) + second * (1 - second)) / n) ** 0.5
    limit = float(norm.ppf(0.5 + confidence / 2)) * (2 * pooled * (1 - pooled) / n) ** 0.5
    gap = abs(second - first)
    if spread == 0:
        return float(gap > limit)
    return float(norm.cdf((gap - limit) / spread) + norm.cdf((-gap - limit) / spread))


def detectable(n: int, rate: float, *, wanted: float = 0.8, confidence: float = 0.95) -> float | None:
    """The smallest distance from `rate`, upwards or downwards, that `n` prompts each would probably show.

    Args:
        n: prompts of each of the two measurements.
        rate: the rate of one of them, 0..1.
        wanted: the power to reach.
        confidence: of the test.

    Returns:
        The distance, to 1e-6; None when even the farthest rate could not be told apart from this one.
    """
    room = max(rate, 1 - rate)
    direction = 1 if rate + room <= 1 else -1
    if power(n, rate, rate + direction * room, confidence) < wanted:
        return None
    low, high = 0.0, room
    while high - low > 1e-6:
        middle = (low + high) / 2
        enough = power(n, rate, rate + direction * middle, confidence) >= wanted
        low, high = (low, middle) if enough else (middle, high)
    return high
