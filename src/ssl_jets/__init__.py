"""ssl-jets: pretrain set transformers on particle jets, write their representation z to disk, finetune, evaluate.

    run = ssl_jets.pretrain("mae", data="jets/", out="runs/mae", steps=2000)   # the run folder
    ssl_jets.embed(run, data="jets/", out="z.parquet", keep=["jet_sdmass"])
    tagger = ssl_jets.finetune(run, data="jets/", mode="full", labels=0.01, out="runs/tagger")
    ssl_jets.predict(tagger, data="jets/", out="scores.root", score="D_Hbb = Hbb / (Hbb + QCD)")
    result = ssl_jets.evaluate(tagger, data="jets/", out="out")
    model = ssl_jets.load_model(tagger)
    z, p = model.embed(jets), model.predict(jets)                              # [jet, D], [jet, class]

The functions have the names and defaults of the commands (`ssl_jets.api`) and raise `ssl_jets.errors.SslJetsError` for
errors that a user can mend. Nothing is imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssl_jets.api import (
        convert,
        embed,
        evaluate,
        export,
        finetune,
        generate,
        merge,
        predict,
        pretrain,
        read_jets,
        share,
        simulate,
    )
    from ssl_jets.jets import Jets
    from ssl_jets.model_file import load_model
    from ssl_jets.zfile import count_rows, iterate_z, read_scores, read_z

__version__ = "0.1.0"
__all__ = [
    "Jets",
    "convert",
    "count_rows",
    "embed",
    "evaluate",
    "export",
    "finetune",
    "generate",
    "iterate_z",
    "load_model",
    "merge",
    "predict",
    "pretrain",
    "read_jets",
    "read_scores",
    "read_z",
    "share",
    "simulate",
]
_VERBS = (
    *("convert", "embed", "evaluate", "export", "finetune", "generate", "merge", "predict", "pretrain", "read_jets"),
    *("share", "simulate"),
)
_MODULES = {"Jets": "ssl_jets.jets", "load_model": "ssl_jets.model_file"}
_MODULES |= dict.fromkeys(_VERBS, "ssl_jets.api")
_MODULES |= dict.fromkeys(("count_rows", "iterate_z", "read_scores", "read_z"), "ssl_jets.zfile")


def __getattr__(name: str) -> Any:
    """Import a public name, or the module `errors`, on its first use."""
    if name == "errors":
        return import_module("ssl_jets.errors")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_module("ssl_jets.runtime.threads").wait_passively()  # before torch is loaded
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, "__doc__", "__version__", "errors"})
