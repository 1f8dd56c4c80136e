"""How fast the encoder is: against the machine's matrix products, and against a padded nn.TransformerEncoder.

    python benchmarks/throughput.py --data TRAIN_FOLDER [--rounds 5] [--jets 512]

All variants run in one process, in turn, `rounds` times; medians are printed as a Markdown table. "useful" counts the
arithmetic of real tokens only (particles, class token, registers): 24 w^2 + 4 L w per token and block, and the
embedding of each particle; three times that for a training step. The peak is the matrix product 4096 x 1024 x 1024
measured in the same rounds.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn

from ssl_jets.allocator import keep_memory
from ssl_jets.config import DataSettings, ModelSettings
from ssl_jets.data.stream import Request
from ssl_jets.data.thin import thin
from ssl_jets.jets import Jets
from ssl_jets.methods.mae import MaskedAutoencoder
from ssl_jets.methods.supervised import Supervised
from ssl_jets.nn.encoder import SIZES, Encoder
from ssl_jets.pretrain import open_dataset, read_all


class Padded(nn.Module):
    """The usual way: the same embedding, then nn.TransformerEncoder over sets padded to the longest of the batch."""

    def __init__(self, like: Encoder) -> None:
        super().__init__()
        width, blocks, heads = SIZES[like.cfg.size]
        self.features, self.embed, self.extra = like.features, like.embed, like.extra_tokens
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, blocks, nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, jets: Jets) -> Tensor:
        tokens = self.embed(self.features(jets)[0])
        longest = int(jets.lengths.max())
        owner = jets.jet_of_particle
        position = torch.arange(len(owner)) - jets.offsets[owner]
        padded = tokens.new_zeros(len(jets), longest, tokens.shape[1]).index_put((owner, position), tokens)
        mask = torch.arange(longest) >= jets.lengths[:, None]
        extra = self.extra.to(padded.dtype).expand(len(jets), -1, -1)
        mask = torch.cat([mask.new_zeros(len(jets), extra.shape[1]), mask], dim=1)
        out: Tensor = self.encoder(torch.cat([extra, padded], dim=1), src_key_padding_mask=mask)
        return out


def useful_flops(encoder: Encoder, jets: Jets) -> float:
    """Multiply-adds of embedding and blocks on real tokens, counted twice."""
    width, blocks, _ = SIZES[encoder.cfg.size]
    length = (jets.lengths + 1 + encoder.cfg.registers).double()
    embedding = 4 * width * (encoder.features.width + width) * len(jets.particles)
    return embedding + float(blocks * (24 * width**2 * length + 4 * width * length**2).sum())


def seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def training_step(module: nn.Module, loss: Callable[[], Tensor], bf16: bool) -> Callable[[], None]:
    def step() -> None:
        module.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            value = loss()
        value.backward()

    return step


def forward(module: nn.Module, jets: Jets, bf16: bool) -> Callable[[], None]:
    def run() -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            module(jets)

    return run


def variants(encoder: Encoder, jets: Jets) -> dict[str, Callable[[], None]]:
    """Everything that is timed, by name."""
    padded = Padded(encoder)
    mae = MaskedAutoencoder(MaskedAutoencoder.Config(), encoder)
    supervised = Supervised(Supervised.Config(), encoder, tuple("0123456789"))
    found: dict[str, Callable[[], None]] = {}
    for name, bf16 in (("fp32", False), ("bf16", True)):
        found[f"forward {name}"] = forward(encoder, jets, bf16)
        found[f"forward padded {name}"] = forward(padded, jets, bf16)
        found[f"step supervised {name}"] = training_step(supervised, lambda: supervised(jets, 0.0)["loss"], bf16)
        found[f"step padded {name}"] = training_step(padded, lambda: padded(jets)[:, 0].float().square().mean(), bf16)
        found[f"step mae {name}"] = training_step(mae, lambda: mae(jets, 0.0)["loss"], bf16)
        left, right = torch.randn(4096, 1024), torch.randn(1024, 1024)
        if bf16:
            left, right = left.bfloat16(), right.bfloat16()
        found[f"matrix product {name}"] = lambda a=left, b=right: a @ b  # type: ignore[misc]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="*", default=[])
    parser.add_argument("--jets", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", default="small")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--default-allocator", action="store_true", help="leave glibc's thresholds as they are")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    kept = False if args.default_allocator else keep_memory()
    data = open_dataset(DataSettings(sources=tuple(args.data)))
    jets = read_all(data.files, thin(data.train, args.jets, 0), Request())
    assert jets is not None
    encoder = Encoder(ModelSettings(size=args.size))
    encoder.features.measure([jets])
    timed = variants(encoder, jets)
    times: dict[str, list[float]] = {name: [] for name in timed}
    for action in timed.values():
        action()
    for _ in range(args.rounds):
        for name, action in timed.items():
            times[name].append(seconds(action))
    report(encoder, jets, {name: median(values) for name, values in times.items()}, args.threads, kept)


def report(encoder: Encoder, jets: Jets, times: dict[str, float], threads: int, kept: bool) -> None:
    useful = useful_flops(encoder, jets)
    print(
        f"{platform.processor() or platform.machine()}, {threads} threads, torch {torch.__version__}, "
        f"{len(jets)} jets of {len(jets.particles) / len(jets):.1f} particles, {encoder.cfg.size}, "
        f"{useful / len(jets) / 1e9:.3f} useful GFLOP a jet forward, "
        f"allocator thresholds {'raised' if kept else 'default'}\n"
    )
    print("| variant | jets/s | useful GFLOP/s | share of matrix product | against padded |\n|---|---|---|---|---|")
    for name, value in times.items():
        precision = name.split()[-1]
        peak = 2 * 4096 * 1024**2 / times[f"matrix product {precision}"] / 1e9
        if name.startswith("matrix"):
            print(f"| {name} | | {peak:.0f} | 1 | |")
            continue
        kind = name.split()[0]
        rate = useful * (1 if kind == "forward" else 3) / value / 1e9
        ratio = times[f"{kind} padded {precision}"] / value
        share = "" if "mae" in name else f"{rate:.0f} | {rate / peak:.0%}"
        print(f"| {name} | {len(jets) / value:.0f} | {share or ' | '} | {ratio:.1f}x |")


if __name__ == "__main__":
    main()
