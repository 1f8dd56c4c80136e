"""Processes of proton collisions that `simulate` generates, as settings of Pythia, and the jets that each one keeps.

The ten classes of JetClass (arXiv:2202.03772). A Z boson that decays to neutrinos recoils against the jets of
QCD and of the Higgs boson, so that an event has one jet of the class; ZZ, WW and top-quark pairs give up to two. The
ranges of momenta are chosen for jet_pt spectra that agree among the classes.
"""

from __future__ import annotations

from dataclasses import dataclass

from ssl_jets.simulation.truth import Match

_QUARKS, _LEPTONS, _NEUTRINOS = "1 2 3 4 5", "11 13", "12 14 16"
_RECOIL = ("WeakZ0:gmZmode = 2", "23:onMode = off", f"23:onIfAny = {_NEUTRINOS}")
_HIGGS = ("HiggsSM:ffbar2HZ = on", *_RECOIL, "25:m0 = 125", "25:onMode = off")
_TOP = ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on", "24:onMode = off")
_WW_HIGGS = (*_HIGGS, "25:onIfMatch = 24 24", "24:onMode = off")


@dataclass(frozen=True)
class Process:
    """One process.

    Attributes:
        label: the class of its jets, as in `label_*` of JetClass.
        channels: settings of Pythia, one tuple for each channel; batches of events alternate between channels.
        matches: truth matches of the jets of the class; other jets are dropped where labels are wanted.
        pt_hat: range of the transverse momentum of the hard process [GeV]; higher if a neutrino leaves the jet.
        tilt: hard events are generated more often by this power of that momentum, so that the jet_pt spectra agree.
    """

    label: str
    channels: tuple[tuple[str, ...], ...]
    matches: tuple[Match, ...]
    pt_hat: tuple[float, float] = (440.0, 1300.0)
    tilt: float = 0.0


PROCESSES: dict[str, Process] = {
    "qcd": Process(
        "QCD",
        (("WeakBosonAndParton:qqbar2gmZg = on", "WeakBosonAndParton:qg2gmZq = on", *_RECOIL),),
        (Match.QCD,),
    ),
    "hbb": Process("Hbb", ((*_HIGGS, "25:onIfMatch = 5 5"),), (Match.H_BB,)),
    "hcc": Process("Hcc", ((*_HIGGS, "25:onIfMatch = 4 4"),), (Match.H_CC,)),
    "hgg": Process("Hgg", ((*_HIGGS, "25:onIfMatch = 21 21"),), (Match.H_GG,)),
    "h4q": Process("H4q", ((*_WW_HIGGS, f"24:onIfAny = {_QUARKS}"),), (Match.H_4Q,)),
    "hqql": Process(
        "Hqql",
        (
            (*_WW_HIGGS, f"24:onPosIfAny = {_QUARKS}", f"24:onNegIfAny = {_LEPTONS}"),
            (*_WW_HIGGS, f"24:onNegIfAny = {_QUARKS}", f"24:onPosIfAny = {_LEPTONS}"),
        ),
        (Match.H_2Q1L,),
        pt_hat=(500.0, 1600.0),
        tilt=0.5,
    ),
    "zqq": Process(
        "Zqq",
        (
            (
                "WeakDoubleBoson:ffbar2gmZgmZ = on",
                "WeakZ0:gmZmode = 2",
                "23:onMode = off",
                f"23:onIfAny = {_QUARKS}",
            ),
        ),
        (Match.Z_BB, Match.Z_CC, Match.Z_QQ),
    ),
    "wqq": Process(
        "Wqq",
        (("WeakDoubleBoson:ffbar2WW = on", "24:onMode = off", f"24:onIfAny = {_QUARKS}"),),
        (Match.W_CQ, Match.W_QQ),
    ),
    "tbqq": Process("Tbqq", ((*_TOP, f"24:onIfAny = {_QUARKS}"),), (Match.TOP_BCQ, Match.TOP_BQQ)),
    "tbl": Process(
        "Tbl",
        ((*_TOP, f"24:onIfAny = {_LEPTONS}"),),
        (Match.TOP_BEN, Match.TOP_BMN),
        pt_hat=(500.0, 1700.0),
        tilt=0.5,
    ),
    "dijets": Process("QCD", (("HardQCD:all = on",),), (Match.QCD,)),
    "quark": Process("QCD", (("WeakBosonAndParton:qg2gmZq = on", *_RECOIL),), (Match.QCD,)),
    "gluon": Process("QCD", (("WeakBosonAndParton:qqbar2gmZg = on", *_RECOIL),), (Match.QCD,)),
}
"""Processes by the name of `--process`."""

CLASSES = ("qcd", "hbb", "hcc", "hgg", "h4q", "hqql", "zqq", "wqq", "tbqq", "tbl")
"""The processes of the ten classes, in the order of the label branches."""

MIXTURE = "mixture"
DIJET_SHARE = 0.6
"""Share of dijets in the mixture; the ten classes have equal parts of the rest."""


def shares(process: str, jets: int) -> dict[str, int]:
    """Return the number of jets of each process: all of one, or the parts of the mixture.

    Example:
        >>> shares("hbb", 100), shares("mixture", 1000)["dijets"], shares("mixture", 1003)["tbl"]
        ({'hbb': 100}, 600, 40)
    """
    if process != MIXTURE:
        return {process: jets}
    dijets = round(DIJET_SHARE * jets)
    rest, more = divmod(jets - dijets, len(CLASSES))
    counts = {name: rest + (index < more) for index, name in enumerate(CLASSES)}  # 401 jets -> 41, 40, 40, ...
    return {name: count for name, count in {"dijets": dijets, **counts}.items() if count}
