"""A trained generator in, a file of new jets out, in the layout that every command reads."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from ssl_jets import __version__, methods
from ssl_jets.data.write import check_suffix, energies, write_jets
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.model_file import load_method, load_model
from ssl_jets.runtime.atomic import check_output
from ssl_jets.runtime.signals import Interrupted, Watch

BATCH = 256
"""Jets drawn at a time. A part of what a seed means: other batches would be other jets."""

Progress = Callable[[int, int], None]
"""Told the jets made and the jets in all."""


@dataclass(frozen=True)
class GenerateSummary:
    """What `generate` did.

    Attributes:
        path: the file.
        jets: jets in it.
        seconds: time it took.
        redrawn: jets that were not usable and in whose place others were drawn, by reason.
    """

    path: Path
    jets: int
    seconds: float
    redrawn: dict[str, int] = field(default_factory=dict)


def generate(
    model_path: str | Path,
    jets: int,
    out: str | Path,
    *,
    seed: int = 0,
    device: torch.device | str | None = None,
    force: bool = False,
    report: Progress | None = None,
) -> GenerateSummary:
    """Write new jets of a model to a ROOT file in the JetClass layout, in bounded memory.

    The same model, seed, device and number of jets give the same jets. A jet without particles, or with values that are
    not finite, is drawn again and counted.

    Args:
        model_path: a run folder or its `model/` folder, of a method that can generate.
        jets: how many.
        out: the file, which must end in `.root`.
        seed: of every random choice.
        device: by default a GPU where there is one.
        force: replace `out`.
        report: told the progress.

    Raises:
        UsageError: a method that cannot generate, an existing output, another suffix.
        SslJetsError: the model or the output fails, or a whole batch of jets is not usable.
        Interrupted: a signal came. In no case is a half-written output left behind.
    """
    began, out = time.monotonic(), check_suffix(out)
    check_output(out, force=force)
    if jets < 1:
        raise UsageError("there are no jets to generate", where="--jets", found=jets, hint="--jets 1000")
    model = load_model(model_path)
    _check_generates(model.method, model_path)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    method = load_method(model_path).to(place).eval()
    facts = {
        "made_by": f"ssl-jets {__version__} generate",
        "method": model.method,
        "model_sha256": model.sha256,
        "seed": seed,
        "batch": BATCH,
    }
    redrawn: Counter[str] = Counter()
    with Watch() as watch:
        batches = _batches(method, jets, seed, place, redrawn, watch, report)
        write_jets(out, batches, labels=method.labels, metadata=facts, force=force)
    return GenerateSummary(out, jets, time.monotonic() - began, dict(redrawn))


def with_axis(jets: Jets) -> Jets:
    """The same jets with an axis (`jet_eta`, `jet_phi`), and with the energies that follow from it.

    A generator makes pt, deta, dphi and energy of particles, but no axis. The energies tell its |eta|: the larger
    solution of sum E = sum pt cosh(eta + deta), or the eta where the right side is least if sum E is below that.
    Nothing tells its sign and phi, which are + and 0. Energies are then set to those of the momenta and the masses
    assumed of each kind: their sum stays, and no particle has a negative mass squared.
    """
    zero = torch.zeros(len(jets), dtype=torch.float64, device=jets.offsets.device)
    eta = jets.jet.get("jet_eta", _eta_of_energies(jets) if "energy" in jets.columns else zero)
    found = replace(jets, jet={**jets.jet, "jet_eta": eta.float(), "jet_phi": jets.jet.get("jet_phi", zero).float()})
    if "energy" not in jets.columns:
        return found
    particles = jets.particles.clone()
    particles[:, jets.columns.index("energy")] = energies(found).float()
    return replace(found, particles=particles)


def _eta_of_energies(jets: Jets) -> Tensor:
    """The |eta| of each axis, float64 `[jet]`, from sum E = (P e^eta + M e^-eta) / 2, P and M = sum pt e^(+-deta)."""
    pt, deta, energy = (jets.column(name).double() for name in ("pt", "deta", "energy"))
    plus, minus, total = (jets.sum(values) for values in (pt * deta.exp(), pt * (-deta).exp(), energy))
    eta = (total / (plus * minus).sqrt()).clamp(min=1).acosh() - (plus / minus).log() / 2
    return eta.clamp(min=0)


def _batches(
    method: Method,
    jets: int,
    seed: int,
    device: torch.device,
    redrawn: Counter[str],
    watch: Watch,
    report: Progress | None,
) -> Iterator[Jets]:
    """Usable jets, `jets` in all; what is not usable is counted in `redrawn`."""
    made = number = 0
    while made < jets:
        if watch.received:
            raise Interrupted(watch.received)
        batch = _draw(method, min(BATCH, jets - made), seed, number, device)
        reasons = _unusable(batch)
        bad = torch.stack(list(reasons.values())).any(0)
        if bool(bad.all()):
            raise SslJetsError(
                "the model makes no usable jets",
                found=", ".join(f"{reason}: {int(which.sum())} of {len(bad)}" for reason, which in reasons.items()),
                hint="train it for longer",
            )
        redrawn.update({reason: int(which.sum()) for reason, which in reasons.items() if which.any()})
        good = with_axis(batch.select((~bad).nonzero()[:, 0]))
        made, number = made + len(good), number + 1
        yield _sorted(good)
        if report is not None:
            report(made, jets)


def _draw(method: Method, jets: int, seed: int, number: int, device: torch.device) -> Jets:
    """Batch `number`, on the CPU. The caller's random numbers are left as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.no_grad():
        torch.manual_seed(hash((seed, number)) % 2**63)
        made = method.generate(jets)
    if len(made) != jets:
        raise SslJetsError("the method made another number of jets than asked for", found=len(made), allowed=[jets])
    return made.to("cpu")


def _unusable(jets: Jets) -> dict[str, Tensor]:
    """For each reason, which jets no reader would take, bool `[jet]`."""
    pt = jets.column("pt")
    momentum = pt * jets.column("deta").cosh()
    wrong = {
        "a value that is not finite": ~(jets.particles.isfinite().all(1) & momentum.isfinite()),
        "a particle without pt": pt <= 0,
    }
    found = {reason: jets.mean(which.float()) > 0 for reason, which in wrong.items()}
    return {"no particles": jets.lengths == 0, **found}


def _sorted(jets: Jets) -> Jets:
    """The particles of each jet by falling pt, as in JetClass."""
    place = jets.offsets[:-1][jets.jet_of_particle] + jets.rank_by_pt()
    particles = torch.empty_like(jets.particles)
    particles[place] = jets.particles
    return replace(jets, particles=particles)


def _check_generates(name: str, run: str | Path) -> None:
    able = [other for other in methods.names() if methods.find(other).can_generate]
    if name not in able:
        raise UsageError(
            "the method of this run cannot generate jets",
            where=run,
            found=f"method {name}",
            allowed=able,
            hint=f"ssl-jets pretrain --method {able[0]}" if able else None,
        )
