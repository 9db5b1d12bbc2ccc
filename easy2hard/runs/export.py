"""A run for the rest of the world: a member as a checkpoint of transformers, or the labels as a dataset."""

from pathlib import Path

from easy2hard.errors import UserError
from easy2hard.files import copy_inside, write_file
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.integrity import check_intact
from easy2hard.runs.manifest import RunDirectory
from easy2hard.runs.origins import restore
from easy2hard.runs.store import new_folder
from easy2hard.tasks.base import span

SIZES = {10**3: "n<1K", 10**4: "1K<n<10K", 10**5: "10K<n<100K", 10**6: "100K<n<1M", 10**7: "1M<n<10M"}
"""What the hub calls the number of rows of a dataset, by the number they are below."""
CITATION = (
    'Nayoung Lee, Ziyang Cai, Avi Schwarzschild, Kangwook Lee and Dimitris Papailiopoulos, "Self-Improving '
    'Transformers Overcome Easy-to-Hard and Length Generalization Challenges", ICML 2025, '
    "[arXiv:2502.01612](https://arxiv.org/abs/2502.01612)"
)


def export_model(run: RunDirectory, out: Path, member: int = 0, adapter: bool = False) -> str | None:
    """Write a member, as it is after the last committed round, for transformers.

    Args:
        run: the run.
        out: a new folder.
        member: which one.
        adapter: write the adapters of a pretrained model alone.

    Returns:
        What the user should know, if anything.

    Raises:
        UserError: ``out`` is in use, there is no such member, or no adapters; transformers has no such decoder; or a
            file of the run is damaged.
    """
    settings = run.settings
    if member >= settings.model.members:
        raise UserError(f"--member {member}: the run has members 0 to {settings.model.members - 1}")
    if settings.model.positions not in ("none", "rope"):
        raise UserError(
            f"model.positions = {settings.model.positions!r}: transformers has no such decoder (what can be exported: "
            "none, rope)"
        )
    if settings.model.loops > 1 or settings.model.loops_per:
        raise UserError(f"model.loops = {settings.model.loops}: transformers has no decoder with loops to export to")
    _refuse_used(out)
    check_intact(run)

    from easy2hard.models.hf_export import export_pretrained, export_transformer
    from easy2hard.models.pretrained import Pretrained
    from easy2hard.models.transformer import Transformer

    restore(run)
    experiment = Experiment(settings, "cpu")
    chosen = experiment.load(run).members[member]
    vocabulary = experiment.task.vocabulary
    own = True
    with new_folder(out) as folder:
        if isinstance(chosen, Pretrained):
            own = export_pretrained(chosen, vocabulary, folder, adapter)
        elif isinstance(chosen, Transformer):
            if adapter:
                raise UserError("--adapter: the run trained all weights; leave it out to export them")
            export_transformer(chosen, vocabulary, folder)
    if own:
        return None
    return "the model's tokenizer cannot read the symbols one by one; the exported one knows the task's symbols alone"


def export_labels(run: RunDirectory, out: Path) -> int:
    """Write the ledgers of all committed rounds as a dataset with a card; return the number of labels.

    Labels of older rounds that were given afresh (``labels.relabel``) are a configuration of their own, since their
    prompts are those of the first.

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
        write_file(folder / "README.md", _card(run).encode())
    return sum(record.proposed for record in rounds)


def _refuse_used(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: exists and is not an empty directory; choose another")


def _card(run: RunDirectory) -> str:
    """Return the dataset's README: a header for the hub, and what the columns mean."""
    restore(run)
    manifest, settings = run.manifest, run.settings
    task = Experiment(settings).task
    rounds = manifest.rounds[1:]
    labels = sum(record.proposed for record in rounds)
    size = next((name for bound, name in SIZES.items() if labels < bound), "10M<n<100M")
    truth = "; ".join(manifest.marks) or "no true answer was used beyond the supervised difficulties"
    truth = "; ".join([truth, *manifest.remarks])  # whose labels were judged by more than the members themselves
    again, afresh = "", ""
    if any(record.relabelled for record in rounds):
        again = """
- config_name: relabelled
  data_files:
  - split: train
    path: relabelled/*.parquet"""
        afresh = """
The configuration `relabelled` has the prompts of older rounds as each later round answered them again: that round
trained on these answers instead. `round` is that of the prompt; the file's name has the round that answered.
"""
    table = "\n".join(
        f"| {record.round} | {span(record.difficulties)} | {record.proposed} | {record.kept} |" for record in rounds
    )
    return f"""---
pretty_name: Self-labelled {settings.task.name}
task_categories:
- text-generation
tags:
- synthetic
- self-improvement
- easy2hard
size_categories:
- {size}
configs:
- config_name: default
  data_files:
  - split: train
    path: data/*.parquet{again}
---

# Self-labelled {settings.task.name}

Every label that models gave themselves in rounds of self-improvement, kept or not, and why.
Task: `{settings.task.name}`. Models: {settings.model.members}.
Supervised up to difficulty {settings.supervised.difficulty} ({task.unit}).
Rounds after that: {len(rounds)}. **Answers may be wrong**: {truth}.

    from datasets import load_dataset
    kept = load_dataset("FOLDER", split="train").filter(lambda row: row["kept"])
{afresh}
| round | difficulty | labels | kept |
|---|---|---|---|
{table}

| column | what it holds |
|---|---|
| `round` | the round that made the label |
| `difficulty` | of the prompt, a number or a pair such as `6x5` |
| `prompt`, `answer` | the question, and the members' joint greedy answer |
| `finished` | the answer came to its end within the bound that its prompt sets |
| `kept`, `why` | trained on, or the filter that dropped it |
| `spoilt` | made wrong on purpose, in a study of noise |
| `votes`, `runner_up`, `members` | members that gave this answer, the next most frequent one, and all of them |
| `confidence` | smallest probability of a token of the answer |
| `mean_log_probability` | mean log-probability of its tokens |
| `twin` | agrees with the answer to the same question asked otherwise; empty where nobody asked |
| `parts` | contains the answers to easier questions that the task declares; empty where nobody asked |
| `students` | where members train on different labels: bit m says that member m may train on it |
| `weights_sha256` | digest of the weights that gave it; `oracle` for the true answer of a counter-example |

Made by easy2hard {manifest.easy2hard}, seed {manifest.seed}, after {CITATION}. The run's settings:

```toml
{settings.to_toml()}```
"""
