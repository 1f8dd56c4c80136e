"""The verb `generate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ssl_jets.runtime.atomic import check_output

if TYPE_CHECKING:
    from ssl_jets.generation import GenerateSummary


def generate(
    model: str | Path, *, jets: int, out: str | Path, seed: int | None = None, force: bool = False
) -> GenerateSummary:
    """Write new jets of a generative model to a ROOT file in the JetClass layout.

    Args:
        model: a run folder of a method that can generate, or its `model/` folder.
        jets: number of jets.
        out: the file, which must end in `.root`; `read_jets` reads it back.
        seed: seed of every random choice; by default 0.
        force: replace `out`.

    Returns:
        `path`, the number of `jets`, and the `redrawn` jets by reason.

    Raises:
        SslJetsError: the model cannot generate, or the output is wrong.
        Interrupted: a signal came; no unfinished file is left.
    """
    check_output(Path(out), force=force)

    from ssl_jets.generation import generate as run_generate
    from ssl_jets.runtime.allocator import tune_memory
    from ssl_jets.runtime.console import Bar

    tune_memory()
    with Bar("generate", jets, "jets") as bar:
        return run_generate(model, jets, out, seed=seed or 0, force=force, report=bar.to_of)
