"""What makes a bottleneck of z: a fixed scale, and noise against which information has to be worth its place."""

from __future__ import annotations

import math

from torch import Tensor, nn

from ssl_jets.jets import Jets
from ssl_jets.nn import chance


def on_sphere(z: Tensor) -> Tensor:
    """z `[jet, dim]` over the root of the mean square of its numbers: on a sphere of radius sqrt(dim)."""
    return nn.functional.normalize(z, dim=1) * math.sqrt(z.shape[1])


def blurred(jets: Jets, z: Tensor, blur: float) -> Tensor:
    """z on the sphere plus normal noise of standard deviation `blur` on each number, `[jet, dim]`.

    A bound on the numbers of z alone bounds nothing: any number of jets can be told apart by the digits of one number.
    With the noise, z of D numbers carries at most D/2 log2(1 + 1 / blur^2) bits. The sphere keeps the encoder from
    outgrowing the noise, and the noise makes it spread what it says over all numbers.
    """
    return on_sphere(z) + blur * chance.normal_per_jet(jets, z.shape[1])
