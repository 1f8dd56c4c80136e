"""Results of the diagnostics of z, without torch: representation statistics and collapse verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ssl_jets.errors import SslJetsError


def joined(numbers: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Join the numbers of a method and of its training to one line of `metrics.jsonl`.

    Raises:
        SslJetsError: both have a number of one name.

    Example:
        >>> joined({"loss": 2.5}, {"step": 10, "kind": "train"})
        {'loss': 2.5, 'step': 10, 'kind': 'train'}
    """
    if twice := sorted(numbers.keys() & others.keys()):
        raise SslJetsError(
            "a number of the method has a name that the training log uses",
            where="metrics.jsonl",
            found=", ".join(twice),
            hint="another name in the dict that `loss` or `validation_metrics` of the method returns",
        )
    return {**numbers, **others}


@dataclass(frozen=True)
class RepresentationStatistics:
    """Statistics of z over a set of jets.

    Attributes:
        jets: number of jets.
        dimensions: width D of z.
        std: mean over the dimensions of the standard deviation over jets.
        std_min: the smallest standard deviation of a dimension.
        variation: share of the length of z that differs between jets, 0 to 1; 0 if all jets have the same z.
        dead: dimensions whose standard deviation is below 1e-3 of the largest.
        rankme: effective rank of the uncentred z, 1 to D.
        participation_ratio: effective rank of the covariance, 1 to D; 0 if no dimension varies.
        mean_cosine: mean cosine between two different jets; 1 if all z are parallel.
        uniformity: uniformity of the centred z on the sphere, -4 to 0; 0 if all are parallel.
        alignment: mean squared distance of two views of a jet, 0 to 4; 2 for two unrelated jets. NaN without views.
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
    """Criterion of collapse that z has met.

    Attributes:
        name: name in `metrics.jsonl`.
        text: measured value and its reference, in words.
    """

    name: str
    text: str
