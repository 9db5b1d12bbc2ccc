"""The training phase of a round: the labels it trains on -> every member's batches -> steps -> what they came to."""

import copy
from collections.abc import Mapping, Sequence

from easy2hard import processes
from easy2hard.engines.engine import Group
from easy2hard.improvement.ledger import read_kept
from easy2hard.learning.batches import STOCK, LabelledSource, Mixture, SupervisedSource
from easy2hard.learning.trainer import NonFiniteLossError, Step, fit
from easy2hard.models.member import Place
from easy2hard.runs.checkpoint import PhaseCheckpoints
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.listener import Listener
from easy2hard.runs.manifest import RoundRecord, read_sealed
from easy2hard.runs.records import RestartRecord, RestartsCheckpoint, TrainingRecord
from easy2hard.runs.store import Store, load_weights
from easy2hard.settings.schema import Settings
from easy2hard.settings.training import PhaseSettings

LAST = 20
"""Steps whose mean loss a round's record has."""


def build_mixture(
    settings: Settings,
    supervised: SupervisedSource,
    older: Sequence[LabelledSource],
    newest: LabelledSource | None,
    number: int,
    member: int,
    again: int = 0,
    place: Place | None = None,
    fewest: int | None = None,
) -> Mixture:
    """Return the batches of a member in a round.

    Args:
        settings: of the run.
        supervised: D0.
        older: labels of earlier rounds; left out where a round's own replace them (``rounds.data``).
        newest: the round's own, None in the supervised phase.
        number: the round.
        member: whose batches.
        again: how often its training had to begin again, with other batches.
        place: draws the places of its examples, where they are drawn.
        fewest: newest labels of the member that has the fewest, since members that share a step have as many rows of
            them; default: of this one.
    """
    if fewest is None:
        fewest = 0 if newest is None else len(newest)
    batch = (number > 0 and settings.rounds.batch) or settings.training.batch
    stream: tuple[str | int, ...] = ("batches", number, member)
    older = [] if settings.rounds.data == "replace" else older
    # A round weighs 1 for each difficulty it covers; one with fewer labels than a batch holds, less by as much.
    weighed = [(source, len(source.labels) * min(1.0, len(source) / batch)) for source in older if len(source)]
    of_supervised = float(len(supervised.task.evaluated_difficulties(settings.supervised.difficulty)))
    if weighed and (share := settings.rounds.supervised_share) is not None:
        of_supervised = share / (1 - share) * sum(weight for _, weight in weighed)
    return Mixture(
        seed=settings.seed,
        stream=(*stream, "again", again) if again else stream,
        supervised=(supervised if number == 0 else supervised.without_curriculum, of_supervised),
        older=weighed,
        newest=newest if fewest else None,
        batch=batch,
        groups=settings.training.groups,
        newest_share=min(settings.rounds.newest_share, fewest / batch),
        place=place,
        stock=settings.training.stock or min(STOCK, settings.supervised.steps * settings.training.batch),
    )


class TrainingPhase:
    """Trains the members of a run, round by round; every process calls it alike.

    Args:
        store: the run.
        experiment: what it is made of; its members are trained in place.
        listener: is told what happens.
    """

    def __init__(self, store: Store, experiment: Experiment, listener: Listener) -> None:
        self.world = processes.current()
        self.store = store
        self.settings = experiment.settings
        self.vocabulary = experiment.task.vocabulary
        self.supervised = experiment.supervised
        self.engine = experiment.engine
        self.members = experiment.members
        self.listener = listener
        scratch = self.settings.rounds.start == "scratch"
        self.untrained = [copy.deepcopy(each.state_dict()) for each in self.members] if scratch else []
        self.labelled: dict[tuple[int, int | None], LabelledSource] = {}

    def begin(self, past: int) -> None:
        """Bring the members to the weights that a round's training begins with; those of round ``past`` labelled it."""
        if self.settings.rounds.start == "continue":
            load_weights(self.store.weights_path(past), self.members)
            return
        for member, state in zip(self.members, self.untrained, strict=True):
            member.load_state_dict(state)

    def run(self, number: int, past: Sequence[RoundRecord]) -> TrainingRecord:
        """Train every member for a round, write its steps and return what they came to.

        Args:
            number: the round; 0 is the supervised phase.
            past: the rounds that it builds on.

        Raises:
            NonFiniteLossError: a member's loss is not a number, and its restarts are used up.
        """
        settings = self.settings
        phase: PhaseSettings = settings.rounds if number else settings.supervised
        # Members train on the same labels but where each has its own (filter vote, voters = "others").
        readers = range(len(self.members)) if settings.labels.taught_by_others else [None] * len(self.members)
        older = {member: self.older(number, past[1:], member) for member in dict.fromkeys(readers)}
        new = {member: self.labels_of(number, member) for member in older} if number else {}
        fewest = min(map(len, new.values()), default=0)
        restarts = self._restarts(number)

        def mixture(member: int) -> Mixture:
            again = sum(restart.member == member for restart in restarts)
            place, own = self.members[member].place, readers[member]
            return build_mixture(
                settings, self.supervised, older[own], new.get(own), number, member, again, place, fewest
            )

        kept = PhaseCheckpoints(
            lambda member: self.store.member_path(number, member),
            60 * settings.storage.checkpoint_minutes,
            writes=self.world.main,
        )
        scale = settings.rounds.learning_rate_scale if number else 1.0
        with self.engine.training() as engine:
            begin = [copy.deepcopy(member.state_dict()) for member in engine.members]
            while True:
                rows: list[tuple[int, float, float, int]] = []

                def on_step(step: Step, rows: list[tuple[int, float, float, int]] = rows) -> None:
                    rows.append((step.step, round(step.loss, 6), round(step.learning_rate, 6), step.tokens))
                    self.listener.step(step)

                self.listener.phase(number, settings.rounds.count, "train", phase.steps)
                mixtures = [mixture(member) for member in range(len(self.members))]
                try:
                    fit(engine, mixtures, phase, settings.optimiser, scale, on_step, kept)
                    break
                except NonFiniteLossError as error:
                    if len(restarts) >= settings.training.restarts:
                        raise
                    restarts.append(RestartRecord(member=error.member, step=error.step, what=str(error)))
                    self.world.from_main(
                        lambda: self.store.save_restarts(number, RestartsCheckpoint(restarts=restarts))
                    )
                    self.listener.note(f"round {number}, {error}: back to the last checkpoint, with other batches")
                    for member, state in zip(engine.members, begin, strict=True):
                        member.load_state_dict(state)  # where there is a checkpoint, it takes its place
        # Processors of another kind may differ in the last bits.
        self.world.copy_from_main([tensor for member in self.members for tensor in member.state_dict().values()])
        self.world.from_main(lambda: self.store.save_training(number, rows))
        last = rows[-LAST:]
        return TrainingRecord(
            steps=len(rows),
            tokens=sum(row[3] for row in rows),
            loss=sum(row[1] for row in last) / len(last),
            restarts=restarts,
        )

    def labels_of(self, number: int, member: int | None = None) -> LabelledSource:
        """Return the kept labels of a round, read from its ledger: a resumed run trains on exactly the same data.

        Args:
            number: the round.
            member: those that this member may train on alone.
        """
        if (number, member) not in self.labelled:
            self.labelled[number, member] = self._source(read_kept(self.store.ledger_path(number), member=member))
        return self.labelled[number, member]

    def older(self, number: int, past: Sequence[RoundRecord], member: int | None = None) -> list[LabelledSource]:
        """Return the labels of the ``past`` rounds that round ``number`` trains on, all or those of a member."""
        if not self.settings.labels.relabel:
            return [self.labels_of(record.round, member) for record in past]
        again = self.store.relabelled_path(number)
        return [self._source(read_kept(again, record.round, member)) for record in past if record.proposed]

    def _source(self, kept: Mapping[int | str, tuple[list[str], list[str]]]) -> LabelledSource:
        groups = [
            Group.join(self.vocabulary.encode_prompts(prompts), self.vocabulary.encode_answers(answers))
            for prompts, answers in kept.values()
        ]
        return LabelledSource(groups, self.store.path)

    def _restarts(self, number: int) -> list[RestartRecord]:
        path = self.store.restarts_path(number)
        if not path.exists():
            return []
        return list(RestartsCheckpoint.model_validate_json(read_sealed(path)).restarts)
