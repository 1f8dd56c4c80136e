"""The arguments of `evaluate` with their types, checked to go together."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssl_jets.api.arguments import check_choice
from ssl_jets.errors import UsageError

PROTOCOLS = ("labels", "anomaly", "domain")


@dataclass(frozen=True)
class EvaluateRequest:
    """The arguments of `evaluate` with their types, and the name of a single model for its report."""

    models: tuple[Path, ...] = ()
    name: str | None = None
    z: tuple[Path, ...] = ()
    generated: tuple[str, ...] = ()
    ensemble: bool = False
    protocol: str | None = None
    data: tuple[str, ...] = ()
    domain: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    out: Path | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    force: bool = False

    def check(self, *, seed: bool = False, efficiency: bool = False) -> None:
        """Check that the arguments go together; `seed` and `efficiency` are true if they were given.

        Raises:
            UsageError: they do not.
        """
        if self.protocol is not None:
            check_choice("--protocol", self.protocol, PROTOCOLS)
        if self.protocol is not None and self.force:
            anew = (
                "a protocol continues the results in its folder; to begin anew, give another --out or remove the folder"
            )
            raise UsageError("this option does not go with --protocol", where="--force", hint=anew)
        options: dict[str, object] = {"--domain": self.domain, "--target": self.target}
        relation = "goes only with"
        if self.protocol == "domain":
            options = {"--z": self.z, "--generated": self.generated, "--ensemble": self.ensemble}
            options |= {"--seed": seed, "--efficiency": efficiency}
            relation = "does not go with"
        if wrong := [option for option, value in options.items() if value]:
            hint = "--set protocol.seeds=3 sets their number" if "--seed" in wrong else None
            raise UsageError(f"this option {relation} --protocol domain", where=", ".join(wrong), hint=hint)
        if self.protocol != "domain":
            self._check_inputs()

    def _check_inputs(self) -> None:
        if sum(map(bool, (self.models, self.z, self.generated))) != 1:
            raise UsageError(
                "evaluate takes models, a z file or generated jets, one of them",
                where="--model, --z, --generated",
                hint="ssl-jets evaluate RUN",
            )
        if self.z and self.data:
            raise UsageError("a z file is evaluated by itself", where="--data", hint="ssl-jets evaluate --z FILE")
        if self.z and (where := self.settings.get("data", {}).get("where")) is not None:
            hint = "ssl-jets embed --where FORMULA, then evaluate --z"
            raise UsageError("a z file is evaluated as it is", where="--where", found=where, hint=hint)
        if self.ensemble and (len(self.models) < 2 or self.protocol):
            hint = "evaluate A B C --ensemble"
            raise UsageError("an ensemble is made of several runs", where="--ensemble", hint=hint)
        if self.protocol and self.generated:
            raise UsageError("a protocol is of models or of a z file", where="--protocol", found="--generated")
        if self.protocol == "labels" and self.z:
            hint = "--protocol anomaly reads a z file"
            raise UsageError("label curves finetune models, and a z file is none", where="--z", hint=hint)

    def folder(self, name: str) -> Path:
        """Return the output folder: `out`, or `name` in the only run, or next to the file."""
        if self.out is not None:
            return self.out
        if self.models:
            return run_of(self.models[0]) / name
        file = self.z[0] if self.z else Path(self.generated[0])
        return file.with_suffix("").with_name(f"{file.stem}-{name}")


def run_of(model: Path) -> Path:
    """Return the run folder of a run or of its `model/` folder."""
    return model.parent if model.name == "model" else model
