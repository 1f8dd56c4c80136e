"""Weights of source jets for the target domain: the density ratio of the domains in z.

A logistic regression of the domain on z, fitted with equal total weight on both domains, gives

    w(z) = p(target | z) / p(source | z) = p_T(z) / p_S(z)

(Bickel, Brückner, Scheffer, JMLR 10 (2009) 2137; for jets Andreassen, Nachman, arXiv:1907.08209). p_S includes the
weights of the source jets. The losses multiply these weights by w, so that the source follows p_T. Large w have a large
variance, so w is clipped, and then divided by its mean over source jets. The weights correct covariate shift (of the
mixture or of the spectra), but not target jets outside the support of the source.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ssl_jets.nn.normalize import nonzero_std

PENALTY = 1.0
"""Penalty of the squared coefficients (of standardized z) relative to the sum of losses: scikit-learn's C = 1."""


class DensityRatioFit(NamedTuple):
    """Diagnostics of the weights on held-out jets.

    Attributes:
        effective: effective sample size as a fraction of the jets, (sum w)^2 / (n sum w^2): 1 for equal w. With weights
            of the jets, of the product of both.
        clipped: fraction of the jets with a clipped w.
        right: balanced accuracy of the domain.
    """

    effective: float
    clipped: float
    right: float


class DensityRatio(nn.Module):
    """Weights w(z) of source jets.

    Args:
        dim: dimension of z.
        clip: largest w before the division by the mean; the smallest is 1 / clip.
    """

    def __init__(self, dim: int, clip: float) -> None:
        super().__init__()
        self.clip = clip
        for name in ("mean", "direction"):
            self.register_buffer(name, torch.zeros(dim, dtype=torch.float64))
        self.register_buffer("offset", torch.zeros((), dtype=torch.float64))
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))
        self.mean: Tensor
        self.direction: Tensor
        self.offset: Tensor
        self.scale: Tensor

    @torch.no_grad()
    def forward(self, z: Tensor) -> Tensor:
        """Return w of source jets with z `[jet, dim]`, `[jet]`, without gradient; their weighted mean is 1."""
        return (self._log_ratio(z).exp().clamp(1 / self.clip, self.clip) / self.scale).float()

    def fit(self, source: Tensor, target: Tensor, weights: Tensor | None = None) -> DensityRatioFit:
        """Fit on every second jet of each domain, and evaluate on the others.

        Args:
            source: z of source jets, `[jet, dim]`, in random order.
            target: the same of target jets.
            weights: of the source jets, `[jet]`, all above 0; by default 1. Their unit does not matter.
        """
        own = source.new_ones(len(source)) if weights is None else weights
        own = own.to(source.device).double() / own.double().mean()
        even = [z.double()[::2] for z in (source, target)]
        odd = [z.double()[1::2] for z in (source, target)]
        self._regress(even[0], even[1], own[::2])
        with torch.no_grad():
            ratio = [self._log_ratio(z) for z in odd]
            raw, own = ratio[0].exp(), own[1::2]
            clamped = raw.clamp(1 / self.clip, self.clip)
            product = own * clamped
            self.scale.copy_(product.sum() / own.sum())
            right = (own * (ratio[0] < 0)).sum() / own.sum()
            return DensityRatioFit(
                effective=float(product.sum().square() / (len(product) * product.square().sum())),
                clipped=float((raw != clamped).double().mean()),
                right=float((right + (ratio[1] > 0).double().mean()) / 2),
            )

    def _log_ratio(self, z: Tensor) -> Tensor:
        return (z.double() - self.mean) @ self.direction + self.offset

    def _regress(self, source: Tensor, target: Tensor, weights: Tensor) -> None:
        """Fit a penalized logistic regression of standardized z, both domains with the same total weight."""
        joined = torch.cat([source, target])
        mean, std = joined.mean(0), nonzero_std(joined)
        x = [(z - mean) / std for z in (source, target)]
        coefficients = torch.zeros(len(mean) + 1, dtype=torch.float64, device=joined.device, requires_grad=True)
        weight = [len(joined) / (2 * float(weights.sum())), len(joined) / (2 * len(target))]
        optimizer = torch.optim.LBFGS(
            [coefficients], max_iter=200, tolerance_grad=1e-6 * len(joined), line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            logits = [z @ coefficients[:-1] + coefficients[-1] for z in x]
            of_source = weight[0] * (weights * nn.functional.softplus(logits[0])).sum()
            of_target = weight[1] * nn.functional.softplus(-logits[1]).sum()
            loss: Tensor = of_source + of_target + PENALTY / 2 * coefficients[:-1].square().sum()
            loss.backward()
            return loss

        with torch.enable_grad():
            optimizer.step(closure)
        fitted = coefficients.detach()
        self.mean.copy_(mean)
        self.direction.copy_(fitted[:-1] / std)
        self.offset.copy_(fitted[-1])
