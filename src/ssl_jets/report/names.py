"""How classes and readers are called and coloured, the same in every figure and table."""

from __future__ import annotations

from collections.abc import Sequence

_MATH = {
    "QCD": r"$q/g$",
    "Hbb": r"$H\to b\bar{b}$",
    "Hcc": r"$H\to c\bar{c}$",
    "Hgg": r"$H\to gg$",
    "H4q": r"$H\to 4q$",
    "Hqql": r"$H\to \ell\nu qq'$",
    "Zqq": r"$Z\to q\bar{q}$",
    "Wqq": r"$W\to qq'$",
    "Tbqq": r"$t\to bqq'$",
    "Tbl": r"$t\to b\ell\nu$",
}
_TEXT = {
    "QCD": "q/g (QCD)",
    "Hbb": "H → bb̄",
    "Hcc": "H → cc̄",
    "Hgg": "H → gg",
    "H4q": "H → 4q",
    "Hqql": "H → ℓνqq′",
    "Zqq": "Z → qq̄",
    "Wqq": "W → qq′",
    "Tbqq": "t → bqq′",
    "Tbl": "t → bℓν",
}

COLOURS = ("#3f90da", "#ffa90e", "#bd1f01", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#92dadd", "#94a4a2", "#717581")
"""Ten colours that people with any colour vision tell apart (Petroff, arXiv:2107.02270), greys last: see `GREY`."""

GREY = "#717581"
"""What is only there to compare with."""

_STYLES = ("-", "--", ":", "-.")


def in_figure(name: str) -> str:
    """A class name for matplotlib; a name that is not of JetClass stays as it is."""
    return _MATH.get(name, name.replace("$", r"\$"))


def in_text(name: str) -> str:
    """A class name for HTML, not yet escaped."""
    return _TEXT.get(name, name)


def colour(name: str, classes: Sequence[str]) -> str:
    """The colour of a class: by its place among `classes`."""
    return COLOURS[list(classes).index(name) % len(COLOURS)]


def line_style(name: str, classes: Sequence[str]) -> str:
    """Every line differs from its neighbours by more than the colour."""
    return _STYLES[list(classes).index(name) % len(_STYLES)]


def reader(probe: dict[str, object]) -> str:
    """What a probe is called: who reads what."""
    of = str(probe["of"])
    return f"{probe['reader']}, {'random weights' if 'random' in of else of}"


_LABELS = {
    "mass": "mass [GeV]",
    "soft-drop mass": "soft-drop mass [GeV]",
    "jet_sdmass": "soft-drop mass [GeV]",
    "tau21": r"$\tau_{21}$",
    "tau32": r"$\tau_{32}$",
    "tau43": r"$\tau_{43}$",
    **{f"jet_tau{n}": rf"$\tau_{n}$" for n in (1, 2, 3, 4)},
    **{f"jet_tau{n}/jet_tau{n - 1}": rf"$\tau_{{{n}{n - 1}}}$" for n in (2, 3, 4)},
    "pt": r"$p_\mathrm{T}$ [GeV]",
    "jet_pt": r"jet $p_\mathrm{T}$ [GeV]",
    "jet_energy": "jet energy [GeV]",
    "eta": r"$\eta$",
    "jet_eta": r"jet $\eta$",
    "jet_phi": r"jet $\phi$ [rad]",
    "jet_mass": "jet mass [GeV]",
    "jet_nparticles": "particles in a jet",
    "a of σ(pt)/pt = a / sqrt(pt/GeV)": r"$a$ in $\sigma(p_\mathrm{T})/p_\mathrm{T} = a\,(p_\mathrm{T}/$GeV$)^{-1/2}$",
    "a of σ = a / (pt/GeV), at most 0.1": r"$a$ in $\sigma = a\,(p_\mathrm{T}/\mathrm{GeV})^{-1}$, at most 0.1",
    "factor": r"factor on $p_\mathrm{T}$",
}

PARTICLE_LABELS = {
    "pt": r"particle $p_\mathrm{T}$ [GeV]",
    "deta": r"particle $\Delta\eta$",
    "dphi": r"particle $\Delta\phi$ [rad]",
    "energy": "particle energy [GeV]",
    "charge": "charge [e]",
    "kind": "kind of particle",
    "d0": r"$d_0$ [mm]",
    "d0err": r"error of $d_0$ [mm]",
    "dz": r"$d_z$ [mm]",
    "dzerr": r"error of $d_z$ [mm]",
}
"""Titles of axes by canonical column of the particles."""


def axis_label(name: str) -> str:
    """A jet column or physics quantity for matplotlib; a name that is not known stays as it is."""
    return _LABELS.get(name, name.replace("$", r"\$"))


_PLAIN = {shown: name for name, shown in reversed([*_MATH.items(), *_LABELS.items()])}


def plain(text: str) -> str:
    """The name behind a text for matplotlib."""
    return _PLAIN.get(text, text.replace(r"\$", "$"))
