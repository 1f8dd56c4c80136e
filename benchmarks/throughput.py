"""How fast the encoder is: against the machine's matrix products, and against a padded nn.TransformerEncoder.

    python benchmarks/throughput.py --data TRAIN_FOLDER [--rounds 5] [--jets 512]

All variants run in one process, in turn, on a fresh batch each round; medians are printed as a Markdown table. "useful"
counts the arithmetic of real tokens only (particles, class token, registers): 24 w^2 + 4 L w per token and block, and
the embedding of each particle; three times that for a training step. The peak is the matrix product 4096 x 1024 x 1024
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

from ssl_jets.config import DataSettings, ModelSettings
from ssl_jets.data.dataset import open_dataset
from ssl_jets.data.request import Request
from ssl_jets.data.subset import subsample
from ssl_jets.jets import Jets
from ssl_jets.methods.mae import MaskedAutoencoder
from ssl_jets.methods.supervised import Supervised
from ssl_jets.nn.encoder import Encoder
from ssl_jets.runtime.allocator import keep_blocks, keep_few_kernels
from ssl_jets.training.run_setup import read_in_memory


class Padded(nn.Module):
    """The usual way: the same embedding, then nn.TransformerEncoder over sets padded to the longest of the batch."""

    def __init__(self, like: Encoder) -> None:
        super().__init__()
        width, blocks, heads = like.cfg.shape
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
    width, blocks, _ = encoder.cfg.shape
    length = (jets.lengths + 1 + encoder.cfg.registers).double()
    embedding = 4 * width * (encoder.features.width + width) * len(jets.particles)
    return embedding + float(blocks * (24 * width**2 * length + 4 * width * length**2).sum())


def seconds(action: Callable[[Jets], object], jets: Jets) -> float:
    began = time.perf_counter()
    action(jets)
    return time.perf_counter() - began


def training_step(module: nn.Module, loss: Callable[[Jets], Tensor], bf16: bool) -> Callable[[Jets], None]:
    def step(jets: Jets) -> None:
        module.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            value = loss(jets)
        value.backward()

    return step


def forward(module: nn.Module, bf16: bool) -> Callable[[Jets], None]:
    def run(jets: Jets) -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            module(jets)

    return run


def variants(encoder: Encoder) -> dict[str, Callable[[Jets], object]]:
    """Everything that is timed, by name."""
    padded = Padded(encoder)
    mae = MaskedAutoencoder(MaskedAutoencoder.Config(), encoder)
    supervised = Supervised(Supervised.Config(), encoder, tuple("0123456789"))
    found: dict[str, Callable[[Jets], object]] = {}
    for name, bf16 in (("fp32", False), ("bf16", True)):
        found[f"forward {name}"] = forward(encoder, bf16)
        found[f"forward padded {name}"] = forward(padded, bf16)
        found[f"step supervised {name}"] = training_step(supervised, lambda jets: supervised(jets, 0.0)["loss"], bf16)
        found[f"step padded {name}"] = training_step(
            padded, lambda jets: padded(jets)[:, 0].float().square().mean(), bf16
        )
        found[f"step mae {name}"] = training_step(mae, lambda jets: mae(jets, 0.0)["loss"], bf16)
        left, right = torch.randn(4096, 1024), torch.randn(1024, 1024)
        if bf16:
            left, right = left.bfloat16(), right.bfloat16()
        found[f"matrix product {name}"] = lambda _, a=left, b=right: a @ b  # type: ignore[misc]
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
    keep_few_kernels()
    kept = False if args.default_allocator else keep_blocks()
    data = open_dataset(DataSettings(sources=tuple(args.data)))
    # A batch for each round, since a batch seen before finds its kernels made.
    jets = read_in_memory(data.files, subsample(data.train, args.jets * (args.rounds + 1), 0), Request())
    assert jets is not None
    warm, *batches = (jets.select(index) for index in torch.randperm(len(jets)).chunk(args.rounds + 1))
    encoder = Encoder(ModelSettings(size=args.size))
    encoder.features.fit_statistics(batches)
    timed = variants(encoder)
    for action in timed.values():
        action(warm)
    times: dict[str, list[float]] = {name: [] for name in timed}
    for batch in batches:
        for name, action in timed.items():
            times[name].append(seconds(action, batch))
    report(encoder, batches, times, args.threads, kept)


def report(encoder: Encoder, batches: list[Jets], times: dict[str, list[float]], threads: int, kept: bool) -> None:
    jets, particles = sum(map(len, batches)), sum(len(batch.particles) for batch in batches)
    useful = [useful_flops(encoder, batch) for batch in batches]
    print(
        f"{platform.processor() or platform.machine()}, {threads} threads, torch {torch.__version__}, {len(batches)} "
        f"batches of {jets / len(batches):.0f} jets of {particles / jets:.1f} particles, {encoder.cfg.size}, "
        f"{sum(useful) / jets / 1e9:.3f} useful GFLOP a jet forward, "
        f"allocator thresholds {'raised' if kept else 'default'}\n"
    )
    print("| variant | jets/s | useful GFLOP/s | share of matrix product | against padded |\n|---|---|---|---|---|")
    for name, seconds_of in times.items():
        precision, kind = name.split()[-1], name.split()[0]
        peak = 2 * 4096 * 1024**2 / median(times[f"matrix product {precision}"]) / 1e9
        if name.startswith("matrix"):
            print(f"| {name} | | {peak:.0f} | 1 | |")
            continue
        passes = 1 if kind == "forward" else 3
        rate = median(passes * work / value / 1e9 for work, value in zip(useful, seconds_of, strict=True))
        ratio = median(a / b for a, b in zip(times[f"{kind} padded {precision}"], seconds_of, strict=True))
        share = "" if "mae" in name else f"{rate:.0f} | {rate / peak:.0%}"
        per_second = median(len(batch) / value for batch, value in zip(batches, seconds_of, strict=True))
        print(f"| {name} | {per_second:.0f} | {share or ' | '} | {ratio:.1f}x |")


if __name__ == "__main__":
    main()
