"""z and scores files: representations and predictions on disk, as ROOT, Parquet, HDF5 or npz, chosen by the suffix.

`ZWriter` writes in bounded memory, all or nothing; `read_z`, `read_scores` and `iterate_z` read its files, and `read_z`
the z files of other tools, whole or some rows; `merge_parts` joins the parts of an array job, or writes an index by
which they are read as one. At level "jet" a row is a jet, in input order, with the column `z` or with scores; at level
"particle" a row is a particle, with the columns `token` and `particle`. All carry the key `source_file`,
`source_entry`, `source_jet`.
"""

from ssl_jets.zfile.columns import Column, Level, Rows, key_columns, z_columns
from ssl_jets.zfile.formats import SUFFIXES
from ssl_jets.zfile.merge import Merged, merge_parts
from ssl_jets.zfile.metadata import PartMetadata, ScoresMetadata, ZMetadata
from ssl_jets.zfile.reader import ZFile, count_rows, iterate_z, read_metadata, read_scores, read_z
from ssl_jets.zfile.writer import ZWriter

__all__ = [
    "SUFFIXES",
    "Column",
    "Level",
    "Merged",
    "PartMetadata",
    "Rows",
    "ScoresMetadata",
    "ZFile",
    "ZMetadata",
    "ZWriter",
    "count_rows",
    "iterate_z",
    "key_columns",
    "merge_parts",
    "read_metadata",
    "read_scores",
    "read_z",
    "z_columns",
]
