"""A run for the rest of the world: a member as a checkpoint of transformers, or the labels as a dataset."""

from pathlib import Path

import numpy as np

from easy2hard.errors import UserError
from easy2hard.files import copy_inside, write_file
from easy2hard.runs.cards import dataset_card, model_card
from easy2hard.runs.evaluations import measured
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.integrity import check_intact
from easy2hard.runs.manifest import RunDirectory
from easy2hard.runs.origins import restore
from easy2hard.runs.store import new_folder
from easy2hard.seeding import numpy_generator
from easy2hard.tasks.base import Difficulty, difficulty_text, length_of
from easy2hard.vocabulary import Tokens

COMPARED = 16
"""Difficulties of which prompts are compared, spread evenly over those that were evaluated."""
PROMPTS = 4
"""Of each of them."""


def export_model(
    run: RunDirectory, out: Path, member: int = 0, adapter: bool = False, repo: str | None = None
) -> str | None:
    """Write a member, as it is after the last committed round, for transformers, with a card.

    It gets its name once transformers has loaded it again and computed the member's logits.

    Args:
        run: the run.
        out: a new folder.
        member: which one.
        adapter: write the adapters of a pretrained model alone.
        repo: what the card calls it, where it is meant for the hub; default: the folder's name.

    Returns:
        What the user should know, if anything.

    Raises:
        UserError: ``out`` is in use, there is no such member, or no adapters; transformers has no such decoder, or
            computes something else with it; or a file of the run is damaged.
    """
    settings = run.settings
    if not 0 <= member < settings.model.members:
        raise UserError(f"--member {member}: the run has members 0 to {settings.model.members - 1}")
    if settings.model.positions not in ("none", "rope"):
        raise UserError(
            f"model.positions = {settings.model.positions!r}: transformers has no such decoder (what can be exported: "
            "none, rope)"
        )
    if settings.model.looping.several:
        raise UserError(f"model.loops = {settings.model.loops}: transformers has no decoder with loops to export to")
    if adapter and not settings.model.lora:
        raise UserError("--adapter: the run trained all weights; leave it out to export them")
    _refuse_used(out)
    check_intact(run)

    from easy2hard.huggingface.export import check_export, engine_limits, expect, export_pretrained, export_transformer
    from easy2hard.huggingface.member import Pretrained
    from easy2hard.models.transformer import Transformer

    restore(run)
    experiment = Experiment(settings, "cpu")
    chosen = experiment.load(run).members[member]
    if not isinstance(chosen, Pretrained | Transformer):
        raise TypeError(f"a member of type {type(chosen).__name__} has no export")
    task, vocabulary = experiment.task, experiment.task.vocabulary
    manifest = measured(run, run.manifest)
    evaluated = task.evaluated_difficulties(task.capped(manifest.frontier + settings.evaluation.beyond))
    further = map(task.parse_difficulty, manifest.rounds[-1].accuracy)
    evaluated = list(dict.fromkeys([*evaluated, *further]))
    longest = max(length_of(task, each)[1] for each in evaluated)
    prompts = _prompts(experiment, evaluated)
    own = True
    with new_folder(out) as folder:
        expected = expect(chosen, vocabulary, prompts, adapter)
        if isinstance(chosen, Pretrained):
            own = export_pretrained(chosen, vocabulary, folder, longest, adapter)
        else:
            export_transformer(chosen, vocabulary, folder, longest)
        check_export(folder, vocabulary, expected)
        name, easy = repo or out.resolve().name, manifest.rounds[0].difficulties
        asked = [vocabulary.decode_prompts(each)[0] for each in _prompts(experiment, [easy[0], easy[-1]])]
        card = model_card(manifest, experiment, member, adapter, name, asked, longest, engine_limits(folder))
        write_file(folder / "README.md", card.encode())
    if own:
        return None
    return "the model's tokenizer cannot read the symbols one by one; the exported one knows the task's symbols alone"


def _prompts(experiment: Experiment, difficulties: list[Difficulty]) -> list[Tokens]:
    """Return prompts of some difficulties, from the first to the last."""
    places = np.unique(np.linspace(0, len(difficulties) - 1, COMPARED).round().astype(int))
    chosen = [difficulties[place] for place in places.tolist()]
    seed, sample = experiment.settings.seed, experiment.task.sample
    return [sample(numpy_generator(seed, "export", difficulty_text(each)), each, PROMPTS) for each in chosen]


def export_labels(run: RunDirectory, out: Path, repo: str | None = None) -> int:
    """Write the ledgers of all committed rounds as a dataset with a card; return the number of labels.

    Labels of older rounds that were given afresh (``labels.relabel``) are a configuration of their own, since their
    prompts are those of the first. ``repo`` is as for :func:`export_model`.

    Raises:
        UserError: ``out`` is in use, no round has labels, or a file of the run is damaged.
    """
    rounds = run.manifest.rounds[1:]
    if not rounds:
        raise UserError(f"{run.path}: no round with labels is committed yet")
    _refuse_used(out)
    check_intact(run)
    with new_folder(out) as folder:
        ledgers = {"data": [run.ledger_path(record.round) for record in rounds]}
        if again := [run.relabelled_path(record.round) for record in rounds if record.relabelled]:
            ledgers["relabelled"] = again
        for name, paths in ledgers.items():
            (folder / name).mkdir()
            for path in paths:
                copy_inside(run.intact(path), run.path, folder / name / path.name)
        write_file(folder / "README.md", dataset_card(run, repo or out.resolve().name).encode())
    return sum(record.proposed for record in rounds)


def _refuse_used(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: exists and is not an empty directory; choose another")
