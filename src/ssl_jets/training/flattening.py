"""Spectra of a training (`data.flatten`): measured when it begins, recorded in its folder, read when it is resumed."""

from __future__ import annotations

import json

from ssl_jets.config import DataSettings
from ssl_jets.data.dataset import Dataset
from ssl_jets.data.loading.flatten import measure_spectrum, with_spectrum
from ssl_jets.data.loading.spectrum import Spectrum
from ssl_jets.data.request import Request
from ssl_jets.errors import UsageError
from ssl_jets.runtime.atomic import write_text
from ssl_jets.runtime.reading import read_json
from ssl_jets.training.run_folder import TrainingRun


def flattened(
    request: Request, data: Dataset, settings: DataSettings, run: TrainingRun | None = None, *, begins: bool = True
) -> Request:
    """Return a request whose jets have the spectrum of `data.flatten`; the same request without that setting.

    Args:
        request: the columns to read.
        data: files and training entries.
        settings: `flatten`, `proportions` and `workers` are used.
        run: the run folder.
        begins: the run begins; a resumed one has recorded its spectra.

    Raises:
        UsageError: `data.proportions` are set too, or a column or the target is unknown.
        DataError: there is no bin in which all classes have jets.
    """
    if settings.flatten is None:
        return request
    if settings.proportions:
        raise UsageError("both settings decide on the mixture of jets", where="data.flatten and data.proportions")
    if run is None or begins:
        return with_spectrum(request, measure_spectrum(data, settings.flatten, request, settings.workers))
    return with_spectrum(request, Spectrum.stored(read_json(run.spectrum, "the spectra of the run cannot be read")))


def record_spectrum(run: TrainingRun, request: Request) -> None:
    """Write the spectra of a run that begins to its folder, and log the effective sample size."""
    if request.flatten is not None and run.writes:
        write_text(run.spectrum, json.dumps(request.flatten.facts()) + "\n")
        run.log_message(request.flatten.line())
