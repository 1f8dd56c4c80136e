"""Results of the diagnostics of z, without torch: representation statistics and collapse verdicts."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class RepresentationStatistics:
    """The spread of z over a set of jets.

    Attributes:
        jets: number of jets.
        dimensions: width D of z.
        std: mean over the dimensions of the standard deviation over jets.
        std_min: the smallest standard deviation of a dimension.
        variation: share of the length of z that differs between jets, 0 to 1; 0 where all jets have the same z.
        dead: dimensions whose standard deviation is below 1e-3 of the largest.
        rankme: effective rank of the uncentred z, 1 to D.
        participation_ratio: effective rank of the covariance, 1 to D; 0 where no dimension varies.
        mean_cosine: mean cosine between two different jets; 1 where all point the same way.
        uniformity: of the centred z on the sphere, -4 to 0; 0 where all point the same way.
        alignment: how far two views of a jet differ, 0 to 4; 2 where as much as two jets do. NaN without views.
    """

    jets: int
    dimensions: int
    std: float
    std_min: float
    variation: float
    dead: int
    rankme: float
    participation_ratio: float
    mean_cosine: float
    uniformity: float
    alignment: float = math.nan


@dataclass(frozen=True)
class Verdict:
    """One way in which a representation has failed.

    Attributes:
        name: what it is called in `metrics.jsonl`.
        text: what was found, beside what it is compared with.
    """

    name: str
    text: str
