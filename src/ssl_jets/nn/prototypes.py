"""Prototypes: soft assignments of jets to learned directions, and of hidden particles by a teacher and its student."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ssl_jets.jets import Jets
from ssl_jets.nn.collectives import gather, rank, total
from ssl_jets.nn.ema import Collected, follow, teacher_of
from ssl_jets.nn.encoder import Encoded, Encoder
from ssl_jets.nn.heads import Projector
from ssl_jets.nn.masking import MaskTokens, decode_hidden, hidden_pt_rank
from ssl_jets.nn.normalize import BatchNorm
from ssl_jets.nn.transformer import Transformer


class PrototypeHead(nn.Module):
    """Cosines of projected z `[jet, dim]` with K prototypes, `[jet, K]` (DINO).

    Args:
        dim: dimension of z.
        hidden: width of the projector's hidden layers.
        width: dimension of the projection.
        prototypes: number K of prototypes.
        norm: function from a width to the norm layer of the projector.
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        width: int,
        prototypes: int,
        norm: Callable[[int], nn.Module] = BatchNorm,
    ) -> None:
        super().__init__()
        self.projector = Projector(dim, hidden, width, 3, norm)
        self.prototypes = nn.Parameter(torch.randn(prototypes, width))

    def forward(self, z: Tensor) -> Tensor:
        """Return the cosines `[jet, K]`, float32."""
        projected = nn.functional.normalize(self.projector(z).float(), dim=1)
        with torch.autocast(z.device.type, enabled=False):  # bfloat16 is too coarse for small temperatures
            return projected @ nn.functional.normalize(self.prototypes, dim=1).T


def centred(cosines: Tensor, centre: Tensor, temperature: float) -> Tensor:
    """Compute softmax((cosines - centre) / temperature), `[jet, K]` (DINO, arXiv:2104.14294)."""
    return ((cosines - centre) / temperature).softmax(1)


@torch.no_grad()
def sinkhorn(cosines: Tensor, temperature: float, rounds: int = 3) -> Tensor:
    """Balance assignments `[jet, K]` so that the jets of all ranks use every prototype equally.

    Rows and columns of exp(cosines / temperature) are normalized in turn, rows last (SwAV, arXiv:2006.09882).

    Args:
        cosines: `[jet, K]` of this rank; every rank has equally many jets.
        temperature: a smaller one gives sharper assignments.
        rounds: number of iterations.
    """
    jets = len(cosines)
    logs = gather(cosines.float()) / temperature
    for _ in range(rounds):
        logs = logs - logs.logsumexp(0, keepdim=True)
        logs = logs - logs.logsumexp(1, keepdim=True)
    return logs[rank() * jets : (rank() + 1) * jets].exp()


PREDICTOR_WIDTH, PREDICTOR_BLOCKS, MASK_TOKENS = 64, 2, 64
"""Size of the predictor, with an attention head for every 16 of its width, and number of mask tokens by pT rank."""


class ParticleDistillation(nn.Module):
    """Loss of iBOT (Zhou et al., arXiv:2111.07832) on the particles of a view; on jets jBOT (arXiv:2601.11719).

        p = predictor({z, tokens, z + mask token of each hidden particle})[hidden],    z, tokens of the visible ones
        s = softmax(cos(head(p), prototypes) / tau_s)
        t = softmax((cos(head'(tokens'), prototypes') - centre) / tau_t),              tokens' of the whole view
        L = mean over jets of mean over the hidden particles of -sum over prototypes of t log s

    iBOT gives mask tokens to its encoder. Here they enter a small predictor behind it, as in `jepa`, and the encoder
    reads real particles only. The projector has LayerNorm: the number of particles differs between ranks.

    Args:
        encoder: the student, for its dimensions.
        prototypes: number of prototypes of particles.
        student_temperature: tau_s.
        teacher_temperature: tau_t.
    """

    centre: Tensor

    def __init__(
        self, encoder: Encoder, prototypes: int, student_temperature: float, teacher_temperature: float
    ) -> None:
        super().__init__()
        self.student_temperature, self.teacher_temperature = student_temperature, teacher_temperature
        width = PREDICTOR_WIDTH
        self.z_in, self.tokens_in = nn.Linear(encoder.dim, width), nn.Linear(encoder.width, width)
        self.mask_tokens = MaskTokens(MASK_TOKENS, width)
        self.predictor = Transformer(width, PREDICTOR_BLOCKS, width // 16)
        self.tokens_out = nn.Linear(width, encoder.width)
        self.head = PrototypeHead(encoder.width, 4 * encoder.width, 64, prototypes, nn.LayerNorm)
        self.teacher_head = teacher_of(self.head)
        self.register_buffer("centre", torch.zeros(prototypes))
        self.sums = Collected[Tensor]()  # of the teacher's cosines and of ones, [prototype + 1]

    def forward(self, view: Jets, hidden: Tensor, student: Encoded, tokens: Tensor) -> Tensor:
        """Compute the loss of one view.

        Args:
            view: the whole view.
            hidden: bool `[particle]`, true for the particles that the student has not read.
            student: z and tokens of the visible particles.
            tokens: the teacher's tokens of the whole view, `[particle, encoder width]`.
        """
        with torch.no_grad():
            cosines = self.teacher_head(tokens[hidden])  # [hidden particle, prototype]
            target = centred(cosines, self.centre, self.teacher_temperature)
        if self.training:
            self.sums.items.append(torch.cat([cosines.double().sum(0), cosines.new_tensor([len(cosines)]).double()]))
        predicted = self.head(self._predict(view, hidden, student))
        prediction = (predicted / self.student_temperature).log_softmax(1)
        return view.keep(hidden).mean(-(target * prediction).sum(1)).mean()

    def _predict(self, view: Jets, hidden: Tensor, student: Encoded) -> Tensor:
        """Return the predicted tokens of the hidden particles, `[hidden particle, encoder width]`."""
        z, tokens = self.z_in(student.z), self.tokens_in(student.tokens)
        mask_tokens = self.mask_tokens(hidden_pt_rank(view, hidden))
        decoded = decode_hidden(self.predictor, view, hidden, z, tokens, mask_tokens)
        prediction: Tensor = self.tokens_out(decoded)
        return prediction

    @torch.no_grad()
    def update(self, momentum: float, centre_momentum: float) -> None:
        """Move the teacher's head to the student's, and the centre to the mean cosines of the last particles."""
        if collected := self.sums.take():
            sums = total(torch.stack(collected).sum(0))
            mean = (sums[:-1] / sums[-1].clamp(min=1)).to(self.centre.dtype)
            self.centre.lerp_(mean, 1 - centre_momentum)
        follow(self.teacher_head, self.head, momentum)
