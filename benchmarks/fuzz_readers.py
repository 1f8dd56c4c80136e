"""Damage files of every layout by flipped bytes and cuts, and read them: jets, or one message, and never anything else.

    python benchmarks/fuzz_readers.py --count 200 --seed 0 FILE...

Each file is read in a process of its own that damages it `count` times. Outcomes: `same` (the jets of the whole file),
`other` (jets that are valid, but differ: a flipped byte in a stored number), `refused` (one SslJetsError), and what
must not be: `escaped` (another exception), `invalid` (a value that is not finite, or offsets that do not fit), `hung`,
`died` (the process was killed).
"""

from __future__ import annotations

import argparse
import faulthandler
import multiprocessing
import random
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from ssl_jets.data.chunks import read_chunk
from ssl_jets.data.files import open_files
from ssl_jets.data.request import Request
from ssl_jets.data.sources import Source
from ssl_jets.errors import SslJetsError
from ssl_jets.jets import Jets

BAD = ("escaped", "invalid", "hung", "died")
OUTCOMES = ("same", "other", "refused", *BAD)

MOST_SECONDS = 20
"""For one damaged file."""


class HungError(Exception):
    """A read that takes longer than `MOST_SECONDS`."""


def damage(content: bytes, rng: random.Random) -> bytes:
    """A cut, one to eight flipped bytes anywhere or in the first or last kilobyte, or a run of zeros."""
    length = len(content)
    how = rng.choice(("cut", "anywhere", "head", "tail", "zeros"))
    if how == "cut":
        return content[: rng.randrange(length)]
    changed = bytearray(content)
    if how == "zeros":
        start = rng.randrange(length)
        stop = min(length, start + rng.randrange(1, 512))
        changed[start:stop] = bytes(stop - start)
        return bytes(changed)
    first, last = {"anywhere": (0, length), "head": (0, min(1024, length)), "tail": (max(0, length - 1024), length)}[
        how
    ]
    for _ in range(rng.randrange(1, 9)):
        changed[rng.randrange(first, last)] ^= rng.randrange(1, 256)
    return bytes(changed)


def read(path: Path) -> Jets:
    """All jets of a file that can be used."""
    file = open_files([Source(str(path))])[0]
    return read_chunk(file, 0, 0, file.entries, Request(bad_jets="skip"))[0]


def is_valid(jets: Jets) -> bool:
    """Finite values, and jets with particles that end where the values end."""
    offsets = jets.offsets
    whole = int(offsets[0]) == 0 and int(offsets[-1]) == len(jets.particles) and bool((offsets.diff() > 0).all())
    return whole and bool(torch.isfinite(jets.particles).all())


def outcome(path: Path, expected: Jets) -> str:
    """What reading a damaged file gives; an exception that escapes is printed."""
    try:
        jets = read(path)
    except SslJetsError:
        return "refused"
    except HungError:
        return "hung"
    except Exception:
        traceback.print_exc()
        return "escaped"
    if not is_valid(jets):
        return "invalid"
    same = jets.columns == expected.columns and torch.equal(jets.offsets, expected.offsets)
    return "same" if same and torch.equal(jets.particles, expected.particles) else "other"


def _on_alarm(number: int, frame: Any) -> None:
    raise HungError


def _work(original: str, seed: int, count: int, results: Any) -> None:
    """Damage and read one file `count` times; each outcome is sent as soon as it is known."""
    faulthandler.enable()
    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, _on_alarm)
    rng, content, expected = random.Random(seed), Path(original).read_bytes(), read(Path(original))
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            path = Path(folder) / f"{number}{Path(original).suffix}"
            path.write_bytes(damage(content, rng))
            signal.alarm(MOST_SECONDS)
            found = outcome(path, expected)
            signal.alarm(0)
            if found in BAD:
                kept = Path(tempfile.gettempdir()) / f"fuzz-{found}-{Path(original).name}-{seed}-{number}{path.suffix}"
                shutil.copy(path, kept)
                print(f"{found}: {kept}", file=sys.stderr)
            path.unlink()
            results.send(found)


def fuzz(original: Path, seed: int, count: int) -> Counter[str]:
    """Outcomes of `count` damaged copies of a file. A process that dies, or hangs where no signal reaches it, is ended
    and counted, and its file is not gone on with."""
    outcomes: Counter[str] = Counter()
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(str(original), seed, count, sender))
    process.start()
    sender.close()
    try:
        while sum(outcomes.values()) < count:
            if not receiver.poll(2 * MOST_SECONDS):
                outcomes["hung"] += 1
                break
            outcomes[receiver.recv()] += 1
    except EOFError:
        outcomes["died"] += 1
    finally:
        process.kill()
        process.join()
    return outcomes


def main() -> None:
    """Print a table of outcomes; the exit code says whether one was bad."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--count", type=int, default=200, help="damaged copies of each file")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("| file | " + " | ".join(OUTCOMES) + " |")
    print("|---" * (len(OUTCOMES) + 1) + "|")
    bad = 0
    for path in options.files:
        outcomes = fuzz(path, options.seed, options.count)
        bad += sum(outcomes[name] for name in BAD)
        print(f"| {path.name} | " + " | ".join(str(outcomes[name]) for name in OUTCOMES) + " |", flush=True)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
