"""The contract of a pretraining method."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from ssl_jets.config import MethodSettings, Recipe
from ssl_jets.jets import COLUMNS, Jets
from ssl_jets.methods._renamed import rename_weights
from ssl_jets.nn.encoder import BaseEncoder, Encoder
from ssl_jets.nn.heads import learned_columns
from ssl_jets.nn.masking import hide_inputs
from ssl_jets.nn.observables import JetObservables
from ssl_jets.nn.task_weights import Mean, Part, means_of, total
from ssl_jets.nn.tasks import Tasks


class Method(nn.Module):
    """A pretraining objective: how z is learned. One file of this folder each, found by the file's name.

    A method sees no trainer, loader, optimizer, rank, logger or file. Its random numbers come from torch's generator,
    which the training loop seeds for every step. Losses are averaged over the particles of each jet first, then over
    the jets of the batch, so that equal batches on several ranks give the gradient of the joined batch.

    A subclass has a docstring with formula and paper, `Config`, `__init__`, `loss` and, if weights follow others,
    `after_step`. Modules of these names have a meaning for others:

        encoder      the trained encoder
        teacher      a momentum encoder, which the collapse monitor compares with it
        projector    the map from z to the vectors that the loss compares (`projection`)
        tasks        supervised tasks on z, whose heads are exported

    Attributes:
        last: loss and parts of the last batch, detached, to log: means with their weights.

    Args:
        cfg: the method's own settings.
        encoder: the encoder to train.
        labels: names of the classes of the training jets; empty for unlabelled jets.

    With `cfg.observables_weight` w, any method also regresses jet observables from z, L + w |A z - observables(x)|.

    A method that names others in `requires` also receives these trained methods (of a teacher the encoder), as keyword
    arguments, and keeps each as the attribute of that name.
    """

    Config: ClassVar[type[MethodSettings]]
    recipe: ClassVar[Recipe] = Recipe()
    """Settings of data, model and training that the method was tested with."""
    can_generate: ClassVar[bool] = False
    """Whether `generate` draws new jets."""
    sees_context: ClassVar[bool] = False
    """Whether `loss` reads the context of jets. Not in pretraining without labels: the pt of a jet gives away the
    hidden particles that add up to it, and two views of a jet would be recognised by it."""
    loss_reads_z: bool = True
    """Whether `loss` depends on z; the collapse monitor then checks that it rises when jets swap their z."""
    loss_can_be_negative: ClassVar[bool] = False
    """Whether `loss` can fall below 0. Among several losses it then gets no learned uncertainty: that would only run to
    its limit."""
    sees_collections: ClassVar[bool] = False
    """Whether `loss` reads further collections of the jets. Not where both views share their elements, or where jets
    are drawn particle by particle; masked methods hide elements with the particles (`masking.visible`)."""
    compares_views: ClassVar[bool] = False
    """Whether `loss` compares views of a jet, one of them of `Jets.second_view`."""
    compares_jets: ClassVar[bool] = False
    """Whether `loss` compares the jets of a batch, so that nothing is learned from a batch of one."""
    regresses_observables: ClassVar[bool] = False
    """Whether `loss` itself regresses jet observables with `cfg.observables_weight`, such as from a noised z."""
    saves_full_method: ClassVar[bool] = False
    """Whether a model folder keeps settings and weights of the whole method besides the exported encoder; always for a
    method that generates."""
    requires: ClassVar[tuple[str, ...]] = ()
    """Settings that hold a run of the method of that name, from which this one starts; or `teacher`, a trained model of
    any method, whose frozen encoder this one imitates."""

    columns: tuple[str, ...] | None = None
    """Particle columns and features that a loaded method was trained with; None for one that is being trained."""

    cfg: MethodSettings

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.saves_full_method = cls.saves_full_method or cls.can_generate

    def __init__(self, cfg: MethodSettings, encoder: Encoder, labels: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.cfg, self.encoder, self.labels = cfg, encoder, labels
        auxiliary = cfg.observables_weight > 0 and not self.regresses_observables
        self.auxiliary = JetObservables(encoder.dim) if auxiliary else None
        self._whole: Jets | None = None
        self.last: dict[str, list[Mean]] = {}
        self.register_load_state_dict_pre_hook(rename_weights)

    def loss(self, jets: Jets, progress: float) -> Mapping[str, Part]:
        """Compute the objective on one batch.

        Args:
            jets: the batch.
            progress: fraction of the training done, 0 to 1.

        Returns:
            `{"loss": scalar with gradient, **parts}`; parts are detached scalars to log. A scalar that is a mean over
            some jets of the batch is a `Mean`, with their number; a loss of such terms is their list.
        """
        raise NotImplementedError

    def forward(self, jets: Jets, progress: float, hide: float = 0.0) -> dict[str, Tensor]:
        """Return the loss and its parts, and keep them as `last`; distributed wrappers hook into this call.

        Args:
            jets: the batch.
            progress: fraction of the training done, 0 to 1.
            hide: probability of hiding each group of inputs.
        """
        parts = self.means(jets, progress, hide)
        self.last = {name: [Mean(value.detach(), weight) for value, weight in part] for name, part in parts.items()}
        return {name: total(part) for name, part in parts.items()}

    def means(self, jets: Jets, progress: float, hide: float = 0.0) -> dict[str, list[Mean]]:
        """Return the loss with the observables', and its parts, as sums of means with their weights.

        Context and collections are hidden unless the method sees them.

        Args:
            jets: the batch.
            progress: fraction of the training done, 0 to 1.
            hide: probability of hiding each group of inputs from `loss` (`hide_inputs`); `whole` still has them.
        """
        hidden = [*(() if self.sees_context else jets.context), *(() if self.sees_collections else jets.collections)]
        some = hide_inputs(jets, hide) if hide else jets
        self._whole = jets.without(hidden) if hide else None
        try:
            parts = self._loss_with_observables(some.without(hidden) if hidden else some, progress)
        finally:
            self._whole = None
        return {name: means_of(part, len(jets)) for name, part in parts.items()}

    def whole(self, jets: Jets) -> Jets:
        """Return the jets of a batch with the inputs that `train.hide_features` hides.

        A frozen network that gives targets reads these jets: it was trained with all inputs.
        """
        return jets if self._whole is None else self._whole

    def _loss_with_observables(self, jets: Jets, progress: float) -> Mapping[str, Part]:
        if self.auxiliary is None:
            return self.loss(jets, progress)
        with _encodings(self.encoder, len(jets)) as encodings:
            parts = self.loss(jets, progress)
        # Of the first encoding that has every jet; if a loss has none, such as of labelled jets only, of whole jets.
        z = encodings[0] if encodings else self.encoder(jets, z_only=True).z
        error = self.auxiliary.error(z, jets, self.encoder.features).mean()
        loss = [*means_of(parts["loss"], len(jets)), Mean(self.cfg.observables_weight * error, len(jets))]
        return {**parts, "loss": loss, "observables_loss": error.detach()}

    def validation_metrics(self, batches: Iterable[Jets]) -> dict[str, float]:
        """Return metrics of all held-out jets together, to log; called in evaluation mode, without gradient."""
        return {}

    def projection(self, z: Tensor) -> Tensor | None:
        """Return the vectors `[jet, out]` that the loss compares between jets or views, from z `[jet, dim]`.

        By default the output of `projector`; None for a method without one.
        """
        projector = getattr(self, "projector", None)
        return None if projector is None else projector(z)

    def prepare(self, batches: Iterable[Jets]) -> None:
        """Fit the statistics of the observables, if they have a weight, and of the method."""
        if self.auxiliary is not None:
            batches = list(batches)
            self.auxiliary.fit_statistics(batches, self.encoder.features)
        self.fit_statistics(batches)

    def fit_statistics(self, batches: Iterable[Jets]) -> None:
        """Fit statistics of training jets, with their `jet_columns`, before the first step; not when resuming."""

    def after_step(self, progress: float) -> None:
        """Update weights that follow others, such as a teacher's; called after each optimizer step."""

    def lr_multipliers(self, progress: float) -> Mapping[str, float]:
        """Return factors on the learning rate by prefix of the parameters' names; the longest prefix applies.

        The prefixes are the same throughout the training. A factor of 0 freezes these parameters. All other
        parameters have the factor 1.
        """
        return {}

    def learned(self, jets: Jets) -> Jets:
        """Return the jets without the columns that this method was not trained with, as `Model.embed` reads them."""
        return jets if self.columns is None else jets.without(set(jets.columns) - set(self.columns))

    def only_learned(self, made: Jets) -> Jets:
        """Return jets that a decoder made without the columns that this loaded method has not learned."""
        return made.without(set(COLUMNS) - set(learned_columns(self.columns or COLUMNS)))

    def exported(self) -> BaseEncoder:
        """Return the encoder that embed, finetune and evaluate use."""
        return self.encoder

    def exported_head(self) -> nn.Module | None:
        """Return the head f(z) = logits over the label names, if the method trains one."""
        return None if self._tasks is None else self._tasks.head

    def exported_regressor(self) -> nn.Module | None:
        """Return the head f(z) = jet columns, if the method trains one."""
        return None if self._tasks is None else self._tasks.regressor

    def exported_particle_heads(self) -> nn.Module | None:
        """Return the heads f(token) of targets of particles, if the method trains any."""
        return None

    @property
    def learns_targets(self) -> bool:
        """Whether z is trained for classes or columns of jets, for which few directions of z can be enough."""
        heads = (self.exported_head(), self.exported_regressor())
        return any(head is not None for head in heads) or self.needs_labels(self.cfg)

    @property
    def _tasks(self) -> Tasks | None:
        tasks = getattr(self, "tasks", None)
        return tasks if isinstance(tasks, Tasks) else None

    @classmethod
    def needs_labels(cls, cfg: MethodSettings) -> bool:
        """Check if training with these settings needs labelled jets."""
        return False

    @classmethod
    def objectives(cls, cfg: MethodSettings) -> tuple[type[Method], ...]:
        """Return this method and the methods inside it, with these settings."""
        return (cls,)

    @classmethod
    def jet_columns(cls, cfg: MethodSettings) -> tuple[str, ...]:
        """Return the jet columns that `loss` and `fit_statistics` read with these settings."""
        return ()

    def generate(self, jets: int) -> Jets:
        """Draw this many new jets with torch's generator; only for methods with `can_generate`."""
        raise NotImplementedError


@contextmanager
def _encodings(encoder: Encoder, jets: int) -> Iterator[list[Tensor]]:
    """Collect each z `[jet, dim]` of this many jets that the encoder returns within the context."""
    collected: list[Tensor] = []

    def collect(_encoder: nn.Module, _inputs: Any, encoded: Any) -> None:
        if len(encoded.z) == jets:
            collected.append(encoded.z)

    handle = encoder.register_forward_hook(collect)
    try:
        yield collected
    finally:
        handle.remove()


class Tokens(Protocol):
    """The interface of a tokenizer for methods that predict its codes.

    Attributes:
        size: number of codes.
    """

    size: int

    def codes(self, jets: Jets) -> Tensor:
        """Return the code of each particle, int64 `[particle]`."""

    def particles(self, codes: Tensor, offsets: Tensor) -> Jets:
        """Return jets of the particles that these codes decode to; `offsets` as in `Jets`."""
