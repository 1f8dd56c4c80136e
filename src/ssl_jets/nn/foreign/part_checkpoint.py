"""Checkpoints of weaver's Particle Transformer (version 1 of the network) in the names of `particle_transformer.py`.

The names of the attention weights tell which code trained them. `in_proj_weight` belongs to torch's MultiheadAttention,
used by the authors' first code and by weaver up to 0.4.17, which swap heads and their numbers. The commit that replaced
it by weaver's own attention, with `in_proj.weight`, dropped the swap (June 2024, released in 0.5.0).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from ssl_jets.errors import SslJetsError
from ssl_jets.nn.foreign.registry import Translated

CLASSES = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")
"""Classes of the head of the public models, trained on JetClass."""
_SOPHON_CLASSES = 188
_SOPHON: Mapping[str, object] = {"pair_activation": False, "jet_pt": 500.0}
"""Arguments of the constructor for Sophon, whose weights have the shapes of the public models."""


def translate_part(weights: Mapping[str, Tensor], inputs: Mapping[int, str]) -> Translated:
    """Translate a state dict of weaver's `ParticleTransformer`, with or without the prefix of its wrapper.

    Args:
        weights: the state dict.
        inputs: name of each set of inputs, by the number of its inputs.

    Raises:
        SslJetsError: it is of another network, or of another version of this one.
    """
    prefix = next((name.removesuffix("cls_token") for name in weights if name.endswith("cls_token")), None)
    if prefix is None:
        raise SslJetsError("this is no checkpoint of a Particle Transformer", found="no weight cls_token")
    own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    fc = {name: value for name, value in weights.items() if re.match(r"(.*\.)?fc\.", name)}
    named = {_renamed(name): value for name, value in own.items() if not name.startswith("fc.")}
    named["class_token"] = named["class_token"].flatten()
    for name in [name for name in named if re.fullmatch(r"pair\.\d+\.weight", name)]:
        named[name] = named[name].flatten(1) if named[name].dim() == 3 else named[name]  # convolutions of size 1
    options = _options(named, inputs)
    swaps = any(name.endswith(".in_proj_weight") for name in own)
    code = "up to 0.4.17 (weights in_proj_weight)" if swaps else "since 0.5 (weights in_proj.weight)"
    notes = [f"order of the heads as in weaver {code}; --option swap_heads={str(not swaps).lower()} is the other"]
    options["swap_heads"] = swaps
    head = [value for suffix in ("weight", "bias") for name, value in fc.items() if name.endswith(f"fc.0.{suffix}")]
    linear = (head[0], head[1]) if len(fc) == 2 and len(head) == 2 else None
    classes = CLASSES if linear is not None and len(linear[0]) == len(CLASSES) else ()
    if fc and linear is None:
        notes.append("the head is left out: it has hidden layers")
    if len(fc) == 4 and any(len(value) == _SOPHON_CLASSES for value in fc.values()):
        options |= _SOPHON
        notes.append(f"{_SOPHON_CLASSES} classes: momenta and pair bias of Sophon (arXiv:2405.12972)")
    elif not classes:
        notes.append("GELU after the pair bias assumed; with use_pre_activation_pair: --option pair_activation=false")
    return Translated(options, named, linear, classes, tuple(notes))


_NAMES = {
    r"^cls_token$": "class_token",
    r"^embed\.input_bn\.": "input_norm.",
    r"^embed\.embed\.": "embed.",
    r"^pair_embed\.embed\.": "pair.",
    r"^cls_blocks\.": "class_blocks.",
    r"\.pre_attn_norm\.": ".norm_in.",
    r"\.post_attn_norm\.": ".norm_attention.",
    r"\.pre_fc_norm\.": ".norm_mlp.",
    r"\.post_fc_norm\.": ".norm_hidden.",
    r"\.attn\.in_proj[._]": ".qkv.",
    r"\.attn\.out_proj\.": ".proj.",
    r"\.fc1\.": ".up.",
    r"\.fc2\.": ".down.",
    r"\.c_attn$": ".head_scale",
    r"\.w_resid$": ".residual_scale",
}
"""Names of the public checkpoints (patterns), and those of this file."""


def _renamed(name: str) -> str:
    for pattern, own in _NAMES.items():
        name = re.sub(pattern, own, name)
    return name


def _options(weights: Mapping[str, Tensor], inputs: Mapping[int, str]) -> dict[str, object]:
    """Return the arguments of the constructor that the shapes of renamed weights imply.

    Raises:
        SslJetsError: the inputs are none of those of the public models, or a weight is missing.
    """
    try:
        count = len(weights["input_norm.weight"])
        heads = len(weights["blocks.0.head_scale"])
    except KeyError as error:
        hint = "version 1, the public checkpoints, has it"
        raise SslJetsError("another version of the Particle Transformer", found=f"no {error}", hint=hint) from None
    if count not in inputs:
        raise SslJetsError("the checkpoint has other inputs", found=f"{count} inputs", allowed=map(str, inputs))

    if "class_blocks.0.head_scale" not in weights:
        raise SslJetsError("another version of the Particle Transformer", found="no blocks of class attention")

    def widths(part: str) -> list[int]:
        layers = {int(match[1]): value for name, value in weights.items() if (match := re.fullmatch(part, name))}
        return [len(layers[index]) for index in sorted(layers) if layers[index].dim() == 2]

    return {
        "inputs": inputs[count],
        "embed": widths(r"embed\.(\d+)\.weight"),
        "pair": widths(r"pair\.(\d+)\.weight")[:-1],
        "heads": heads,
        "blocks": 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks.")),
        "class_blocks": 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("class_blocks.")),
    }
