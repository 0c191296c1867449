"""What the record keeps of where the prompts lie in the residual stream: small numbers, enough to draw it again."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Histogram:
    """Projections of both sides at one layer, counted in bins of equal width.

    Attributes:
        layer: block whose input was read.
        low: lower edge of the first bin, in the stream's own units.
        high: upper edge of the last bin.
        refused: prompts that the model refuses, by bin.
        answered: prompts that it answers, by bin.
    """

    layer: int
    low: float
    high: float
    refused: list[int]
    answered: list[int]


@dataclass(frozen=True)
class Cloud:
    """Points of one side on the map.

    Attributes:
        x: projection on the chosen direction.
        y: on the first principal component of what the direction leaves.
        fit: how many of the points, the last ones, also fitted the direction.
    """

    x: list[float]
    y: list[float]
    fit: int


@dataclass(frozen=True)
class Geometry:
    """Where prompts lie along the direction, at the chosen position, in the unedited model.

    Attributes:
        position: token position, counted from the end.
        layer: of the map.
        histograms: one a layer, along that layer's own difference of means at this position.
        refused: the map's points that the model refuses.
        answered: the map's points that it answers.
        share: of the variance of all points that the direction leaves, what the map's second axis shows.
    """

    position: int
    layer: int
    histograms: list[Histogram]
    refused: Cloud
    answered: Cloud
    share: float
