"""Readers of ROOT, HDF5, Parquet and npz files."""
