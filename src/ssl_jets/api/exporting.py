"""The verb `export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ssl_jets.api.arguments import Names, SettingTree, given, names_of, tree_of
from ssl_jets.api.early import check_read
from ssl_jets.api.embedding import log_sample
from ssl_jets.runtime.atomic import check_output
from ssl_jets.runtime.console import log

if TYPE_CHECKING:
    from ssl_jets.exporting import ExportSummary


def export(
    model: str | Path,
    *,
    out: str | Path,
    data: Names = (),
    schema: str | Path | None = None,
    tokens: bool = False,
    int8: bool = False,
    settings: SettingTree | None = None,
    force: bool = False,
) -> ExportSummary:
    """Write a model as ONNX, after a comparison of onnxruntime with PyTorch on real jets.

    The graph reads physical columns of particles, `[jet, particle, column]` in GeV, mm and rad with NaN for a missing
    value, and a mask `[jet, particle]`; features and their statistics are inside. It returns z, and class
    probabilities and regressed columns of a finetuned model.

    Args:
        model: a run folder, or its `model/` folder.
        out: the file, which must end in `.onnx`.
        data: jets to compare on; by default the bundled sample.
        schema: YAML file (or name) of the format of the files.
        tokens: the graph also returns the tokens of the particles.
        int8: also write `OUT.int8.onnx` with 8-bit weights, and measure what they lose.
        settings: further settings `export.*` and `data.*`.
        force: replace existing files.

    Returns:
        `path`, `differences` between the two runtimes by output, their `latencies`, and the file `int8`.

    Raises:
        SslJetsError: a package of the extra `onnx` is missing, the model cannot be exported, or the results differ.
    """
    check_output(Path(out), force=force)

    from ssl_jets.config import resolve
    from ssl_jets.exporting import ExportSettings
    from ssl_jets.exporting import export as run_export
    from ssl_jets.runtime.allocator import tune_memory

    tune_memory()
    tree = tree_of(settings, schema)
    check_read(tree)
    resolved = resolve(ExportSettings, tree, {"data": given(sources=names_of(data))})
    log_sample(resolved.data.named)
    return run_export(model, out, settings=resolved, tokens=tokens, int8=int8, force=force, log=log)
