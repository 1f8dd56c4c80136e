"""What the figures of a run begin with: the run, and jets that its training did not see."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from ssl_jets.config import DataSettings
from ssl_jets.data.files import open_files
from ssl_jets.data.sources import resolve_sources
from ssl_jets.evaluation.roles import assign_roles, draw
from ssl_jets.jets import Jets
from ssl_jets.model_file import load_model


def asked(description: str | None) -> argparse.Namespace:
    """`RUN --data SRC... [--seed N]` of the command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def held_out(args: argparse.Namespace, most: int) -> tuple[Jets, dict[str, torch.Tensor]]:
    """At most `most` labelled jets that were held out of the training of the run, and the rows of each class."""
    model, files = load_model(args.run), open_files(resolve_sources(args.data))
    jets = draw(files, assign_roles(files, model.facts["training"], DataSettings()).test, most, args.seed)
    assert jets.labels is not None
    of_class = {name: (jets.labels == index).nonzero()[:, 0] for index, name in enumerate(model.labels)}
    torch.manual_seed(args.seed)
    return jets, of_class
