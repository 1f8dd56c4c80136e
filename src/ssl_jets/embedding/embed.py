"""Files of jets in, a z file out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssl_jets.embedding.job import OutputSummary, check_options, write_output
from ssl_jets.embedding.options import OutputOptions
from ssl_jets.embedding.outputs import ZOutput
from ssl_jets.model_file import load_model
from ssl_jets.zfile import Level


def embed(
    model_path: str | Path, sources: Sequence[str], out: str | Path, *, level: Level = "jet", **options: Any
) -> OutputSummary:
    """Write z of every jet of `sources`, in input order, to one z file; or the tokens of every particle.

    At level "jet" the rows are the jets of the input, one for one, or those that `data.where` selects. With
    `data.bad_jets` and `data.bad_files` "skip" a bad jet has z of NaN and the label -1 (unreadable kept columns: NaN,
    -1 or false); at level "particle" it has no rows. A file that cannot be opened has none at either level. Processes
    started by torchrun share the work and write one file, with the rows of one process.
    Options are the fields of `OutputOptions`.

    Raises:
        UsageError: an unknown suffix, an existing output, a column that an input does not have.
        SslJetsError: the model, an input or the output fails.
        Interrupted: a signal came. In no case is a half-written output left behind.
    """
    chosen = OutputOptions(**options)
    check_options(Path(out), chosen)
    return write_output(ZOutput(load_model(model_path), level), sources, Path(out), chosen)
