"""z files: representations on disk, as ROOT, Parquet, HDF5 or npz, chosen by the suffix of the path.

`ZWriter` writes in bounded memory, all or nothing; `read_z` and `iterate_z` read its files, and the z files of other
tools. At level "jet" a row is a jet, in input order, with the column `z`; at level "particle" a row is a
particle, with the columns `token` and `particle`. Both carry the key `source_file`, `source_entry`, `source_jet`.
"""

from ssl_jets.zfile.columns import Column, Level, Rows, z_columns
from ssl_jets.zfile.formats import SUFFIXES
from ssl_jets.zfile.metadata import ZMetadata
from ssl_jets.zfile.reader import ZFile, iterate_z, read_z
from ssl_jets.zfile.writer import ZWriter

__all__ = [
    "SUFFIXES",
    "Column",
    "Level",
    "Rows",
    "ZFile",
    "ZMetadata",
    "ZWriter",
    "iterate_z",
    "read_z",
    "z_columns",
]
