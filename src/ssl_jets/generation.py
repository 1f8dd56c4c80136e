"""Generation of new jets by a trained model, written in the layout that every command reads."""

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
from ssl_jets.nn.random import kept_state
from ssl_jets.records.particles import impossible
from ssl_jets.runtime.atomic import check_output
from ssl_jets.runtime.gpu import default_device
from ssl_jets.runtime.signals import Interrupted, Watch

BATCH = 256
"""Jets drawn at a time. The jets of a seed depend on it."""

Progress = Callable[[int, int], None]
"""Function that is called with the generated jets so far and the total number of jets."""


@dataclass(frozen=True)
class GenerateSummary:
    """Result of `generate`.

    Attributes:
        path: the file.
        jets: jets in it.
        seconds: wall time.
        redrawn: unusable jets that were drawn again, by reason.
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

    On a CPU, the same model, seed and number of jets give the same jets. A jet that readers would refuse, without
    particles or with a value that no particle can have, is drawn again and counted. The file has no column that the
    training jets lacked.

    Raises:
        UsageError: a method that cannot generate, an existing output, another suffix, a negative seed.
        SslJetsError: the model or the output fails, or 256 jets drawn together are all not usable.
        Interrupted: a signal was received. No error leaves a half-written output.
    """
    began, out = time.monotonic(), check_suffix(out)
    check_output(out, force=force)
    if jets < 1:
        raise UsageError("there are no jets to generate", where="--jets", found=jets, hint="--jets 1000")
    if seed < 0:
        raise UsageError("a seed is not negative", where="--seed", found=seed, allowed=["0 or more"])
    model = load_model(model_path)
    _check_generates(model.method, model_path)
    compute_on = default_device(device)
    method = load_method(model_path).to(compute_on).eval()
    facts = {
        "made_by": f"ssl-jets {__version__} generate",
        "method": model.method,
        "model_sha256": model.sha256,
        "seed": seed,
        "batch": BATCH,
    }
    redrawn: Counter[str] = Counter()
    with Watch() as watch:
        batches = _batches(method, jets, seed=seed, device=compute_on, redrawn=redrawn, watch=watch, report=report)
        write_jets(out, batches, labels=method.labels, metadata=facts, force=force)
    return GenerateSummary(out, jets, time.monotonic() - began, dict(redrawn))


def with_axis(jets: Jets) -> Jets:
    """Add an axis (`jet_eta`, `jet_phi`) to jets, and the energies that follow from it.

    A generator makes pt, deta, dphi and energy of particles, but no axis. The energies determine its |eta|: the larger
    solution of sum E = sum pt cosh(eta + deta), or the eta of the smallest right side if sum E is below it.
    Its sign and phi are free; they are set to + and 0. Energies are then computed from the momenta and the mass
    assumed for each kind: their sum stays, and no particle has a negative mass squared.

    Args:
        jets: any jets; an axis that they have is kept.
    """
    zero = torch.zeros(len(jets), dtype=torch.float64, device=jets.offsets.device)
    eta = jets.jet.get("jet_eta", _eta_of_energies(jets) if "energy" in jets.columns else zero)
    phi = jets.jet.get("jet_phi", zero)
    jets = replace(jets, jet={**jets.jet, "jet_eta": eta.float(), "jet_phi": phi.float()})
    if "energy" not in jets.columns:
        return jets
    particles = jets.particles.clone()
    particles[:, jets.columns.index("energy")] = energies(jets).float()
    return replace(jets, particles=particles)


def _eta_of_energies(jets: Jets) -> Tensor:
    """Return |eta| of each axis, float64 `[jet]`; sum E = (P e^eta + M e^-eta) / 2, P and M = sum pt e^(+-deta)."""
    pt, deta = jets.column("pt").double(), jets.column("deta").double()
    plus, minus = jets.sum(pt * deta.exp()), jets.sum(pt * (-deta).exp())
    total = jets.sum(jets.column("energy").double())
    eta = (total / (plus * minus).sqrt()).clamp(min=1).acosh() - (plus / minus).log() / 2
    return eta.clamp(min=0)


def _batches(
    method: Method,
    jets: int,
    *,
    seed: int,
    device: torch.device,
    redrawn: Counter[str],
    watch: Watch,
    report: Progress | None,
) -> Iterator[Jets]:
    """Yield batches of usable jets, `jets` in total; unusable ones are counted in `redrawn`."""
    done = number = 0
    size = min(BATCH, jets)
    while done < jets:
        if watch.received:
            raise Interrupted(watch.received)
        batch = _draw(method, size, seed, number, device)
        left_out: Counter[str] = Counter()
        good = _usable(with_axis(_usable(batch, left_out)), left_out)  # the axis gives new energies
        if not len(good) and size == BATCH:
            found = ", ".join(f"{reason}: {count} of {len(batch)}" for reason, count in left_out.items())
            raise SslJetsError("the model makes no usable jets", found=found, hint="train it for longer")
        redrawn.update(left_out)
        good = good.select(torch.arange(min(len(good), jets - done)))
        done += len(good)
        number += 1
        size = min(BATCH, jets - done) if len(good) else BATCH  # a last jet may be unusable: that is no bad model
        yield good.by_pt()
        if report is not None:
            report(done, jets)


def _draw(method: Method, jets: int, seed: int, number: int, device: torch.device) -> Jets:
    """Generate batch `number`, on the CPU; the global random state is left unchanged."""
    with kept_state(device), torch.no_grad():
        torch.manual_seed(hash((seed, number)) % 2**63)
        batch = method.only_learned(method.generate(jets))
    if len(batch) != jets:
        raise SslJetsError("the method made another number of jets than asked for", found=len(batch), allowed=[jets])
    return batch.to("cpu")


def _usable(jets: Jets, left_out: Counter[str]) -> Jets:
    """Return the jets that readers take; count the others in `left_out`, each by its first reason."""
    reasons = {"no particles": (jets.lengths == 0).nonzero()[:, 0]}
    for reason, wrong in impossible(jets.particles.numpy(), jets.columns):
        reasons[reason] = jets.jet_of_particle[torch.from_numpy(wrong)]
    bad = torch.zeros(len(jets), dtype=torch.bool)
    for reason, of_reason in reasons.items():
        before = int(bad.sum())
        bad[of_reason] = True
        if count := int(bad.sum()) - before:
            left_out[reason] += count
    return jets.select(~bad)


def _check_generates(name: str, run: str | Path) -> None:
    if name not in methods.names():
        hint = f"{methods.VARIABLE}=FOLDER names the folder with {name}.py"
        raise UsageError("the method of this run is not on this machine", where=run, found=f"method {name}", hint=hint)
    able = methods.with_property("can_generate")
    if name not in able:
        raise UsageError(
            "the method of this run cannot generate jets",
            where=run,
            found=f"method {name}",
            allowed=able,
            hint="ssl-jets pretrain --method next_particle",  # the nearest to real jets (docs/generate.md)
        )
