"""The verbs of the package, one function for each command, with the names and defaults of its options.

    run = ssl_jets.pretrain("mae", data="jets/", out="runs/mae", steps=2000)
    ssl_jets.embed(run, data="jets/", out="z.parquet")

The same arguments everywhere:

    data        file, folder, glob, `@list.txt` or `file.root:tree`; one or several, none for the bundled sample
    schema      YAML file (or name) of the format of the files
    settings    settings without an argument of their own, by dotted key: `{"train.lr": 5e-4}`
    out, force  the output; `force=True` replaces an existing one

The command line parses, calls one of these functions and prints its result. Libraries are imported on the first call.
"""

from ssl_jets.api.conversion import convert
from ssl_jets.api.embedding import embed, merge, predict, read_jets
from ssl_jets.api.evaluation import evaluate
from ssl_jets.api.exporting import export
from ssl_jets.api.generation import generate
from ssl_jets.api.sharing import share
from ssl_jets.api.simulation import simulate
from ssl_jets.api.training import finetune, plan_finetuning, pretrain

__all__ = [
    "convert",
    "embed",
    "evaluate",
    "export",
    "finetune",
    "generate",
    "merge",
    "plan_finetuning",
    "predict",
    "pretrain",
    "read_jets",
    "share",
    "simulate",
]
