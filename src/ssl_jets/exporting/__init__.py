"""Export of a trained model as ONNX, for inference without Python."""

from ssl_jets.exporting.exporter import ExportSettings, ExportSummary, export

__all__ = ["ExportSettings", "ExportSummary", "export"]
