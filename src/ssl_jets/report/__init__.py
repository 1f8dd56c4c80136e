"""Run and evaluation folders to figures and one self-contained HTML page. Imports no torch."""

from ssl_jets.report.folders import is_run
from ssl_jets.report.report import (
    write_comparison_report,
    write_evaluation_report,
    write_result_report,
    write_run_report,
)

__all__ = ["is_run", "write_comparison_report", "write_evaluation_report", "write_result_report", "write_run_report"]
