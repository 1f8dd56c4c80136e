"""Formats whose files hold no particles of jets, with the reason and a replacement.

A format is recognised by branches that no other program writes; names such as `Jet_pt` would be ambiguous.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ssl_jets.data.readers.base import Table
from ssl_jets.errors import DataError


@dataclass(frozen=True)
class UnsupportedFormat:
    """A format that cannot be read.

    Attributes:
        title: name for people.
        branches: a table with all of these is of this format, unless it fits a schema.
        why: the missing content.
        hint: a remedy.
    """

    title: str
    branches: tuple[str, ...]
    why: str
    hint: str


_UNSUPPORTED = (
    UnsupportedFormat(
        "CMS NanoAOD",
        ("run", "luminosityBlock", "nJet", "Jet_pt"),
        "no PF candidates that its jets are linked to: neither PFCands_pt with JetPFCands_pFCandsIdx or"
        " FatJetPFCands_pFCandsIdx, nor PFCand_pt with FatJetPFCand_pfCandIdx",
        "take PFNano (NanoAOD made with cms-jet/PFNano), or NanoAODv15 with PFCand, of the same data set",
    ),
    UnsupportedFormat(
        "ATLAS xAOD (PHYSLITE)",
        ("AnalysisJetsAuxDyn.pt", "AnalysisJetsAuxDyn.eta"),
        "no constituents: the file does not store the collections that links of its jets lead to (UFOCSSK,"
        " CHSGChargedParticleFlowObjects, CHSGNeutralParticleFlowObjects, ...)",
        "take a derivation that has them (JETM, for one), or add them to your slimming list; see docs/events.md",
    ),
    UnsupportedFormat(
        "Delphes",
        ("Jet.PT", "Jet.BTag", "Jet.Constituents"),
        "no candidates: its jets refer to objects that the file does not store",
        "add ParticleFlowCandidate, or EFlowTrack, EFlowPhoton and EFlowNeutralHadron, to the TreeWriter of the card",
    ),
    UnsupportedFormat(
        "EDM4hep",
        ("ReconstructedParticles.energy", "ReconstructedParticles.momentum.x"),
        "no jets: there is no collection Jet with Jet.particles_begin",
        "cluster jets, and write them as a collection named Jet",
    ),
)


def refuse_unsupported(tables: Sequence[Table], where: object) -> None:
    """Raise an error with a remedy for a file of a known format that lacks the particles of its jets.

    Raises:
        DataError: a table is of an unsupported format.
    """
    for table in tables:
        branches = set(table.branches)
        for known in _UNSUPPORTED:
            if set(known.branches) <= branches:
                raise DataError(
                    f"this {known.title} file holds no jets with particles",
                    where=f"{where}, tree {table.name}",
                    found=known.why,
                    hint=f"{known.hint}; or --schema FILE, which names branches of your own",
                )
