"""The README of what a run exports: a card with a header for the hub, of a model or of its labels."""

import json
from collections.abc import Sequence
from pathlib import Path

from easy2hard.evaluation.reach import REACHED
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.manifest import Manifest, RunDirectory
from easy2hard.runs.origins import restore
from easy2hard.settings.schema import Settings
from easy2hard.tasks.base import difficulty_text, span

SIZES = {10**3: "n<1K", 10**4: "1K<n<10K", 10**5: "10K<n<100K", 10**6: "100K<n<1M", 10**7: "1M<n<10M"}
"""What the hub calls the number of rows of a dataset, by the number they are below."""
CITATION = (
    'Nayoung Lee, Ziyang Cai, Avi Schwarzschild, Kangwook Lee and Dimitris Papailiopoulos, "Self-Improving '
    'Transformers Overcome Easy-to-Hard and Length Generalization Challenges", ICML 2025, '
    "[arXiv:2502.01612](https://arxiv.org/abs/2502.01612)"
)


def model_card(
    manifest: Manifest,
    experiment: Experiment,
    member: int,
    adapter: bool,
    name: str,
    prompts: Sequence[str],
    longest: int,
    limits: Sequence[str],
) -> str:
    """Return the README of an exported member.

    Args:
        manifest: of the run; its last round has the scores of the evaluation that figures are taken from.
        experiment: what the run is made of.
        member: which one.
        adapter: adapters alone were exported.
        name: what the reader loads: a folder, or a repository of the hub.
        prompts: a few of the task, for the examples of calls.
        longest: tokens that ``generate`` writes at most unless it is told otherwise.
        limits: what other engines than transformers may not honour, in sentences.
    """
    settings, task = experiment.settings, experiment.task
    base = settings.model.pretrained
    on_hub = base is not None and not Path(base).expanduser().is_dir()
    header = ["library_name: " + ("peft" if adapter else "transformers"), "pipeline_tag: text-generation"]
    header += [f"base_model: {json.dumps(base)}"] * on_hub + ["tags:", "- easy2hard", "- self-improvement"]
    lines = "\n".join
    return f"""---
{lines(header)}
---

# {settings.task.name}, answered by a self-improving transformer

{_made_of(settings, adapter)} It answers one kind of question, `{prompts[0]}` for example: {task.summary}.

It is member {member}, counted from 0, of {settings.model.members} that were trained together: on true answers up to
difficulty {settings.supervised.difficulty} ({task.unit}), and in {len(manifest.rounds) - 1} rounds after that on labels
for harder prompts which the members gave, up to difficulty {manifest.frontier}. For these labels
{_truth(manifest)}.

## Figures

{_figures(manifest)}

## Calls

{_calls(name, prompts, adapter)}

Decoding is greedy. `generate` writes at most {longest} tokens unless it is told otherwise: room for the longest answer
of the difficulties that the run was evaluated on. An answer that has no end by then is wrong.

## Other engines

With transformers the logits are those of the run's member; the export checked it. Other engines may not honour this:

{lines(f"- {each}" for each in limits)}

## The run

easy2hard {manifest.easy2hard}, seed {manifest.seed}, weights `{manifest.rounds[-1].weights_sha256}` (SHA-256 of the
run's file, all members), after {CITATION}. The recipe:

```toml
{settings.to_toml()}```
"""


def _made_of(settings: Settings, adapter: bool) -> str:
    """Return what kind of model it is, in a sentence."""
    model = settings.model
    if model.pretrained:
        trained = "all weights trained"
        if model.lora:
            trained = f"low-rank adapters of rank {model.lora.rank}, " + ("alone" if adapter else "merged into it")
        return f"`{Path(model.pretrained).name}`, {trained}."
    order = "without positional encoding" if model.positions == "none" else "with rotary embedding"
    return f"A decoder of {model.size.layers} layers, {model.size.width} wide, {order}, in the form of a SmolLM3."


def _figures(manifest: Manifest) -> str:
    """Return how far the run got."""
    newest = manifest.rounds[-1]
    if not newest.accuracy:
        return "Nothing was measured."
    taught = {difficulty_text(each) for each in manifest.rounds[0].difficulties}
    labelled = {difficulty_text(each) for record in manifest.lineage[1:] for each in record.difficulties}
    how = dict.fromkeys(labelled, "the members' labels") | dict.fromkeys(taught, "true answers")
    rows = [f"| {each} | {score:.3f} | {how.get(each, '')} |" for each, score in newest.accuracy.items()]
    table = "\n".join(["| difficulty | exact match | trained on |", "|---|---|---|", *rows])
    return f"""**{newest.reach_text}**

Exact match is the share of unseen prompts that are answered without a mistake. The reach is the last difficulty before
the first that is significantly below {REACHED:g}.

{table}"""


def _calls(name: str, prompts: Sequence[str], adapter: bool) -> str:
    """Return code that asks the model; a test runs it."""
    loaded, asked = json.dumps(name), json.dumps(list(prompts))
    if adapter:
        return f"""Adapters are loaded by peft, beside the model they were trained with:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

tokenizer = AutoTokenizer.from_pretrained({loaded})
model = AutoModelForCausalLM.from_pretrained({loaded})
given = tokenizer({asked}, return_tensors="pt", padding=True)
tokens = model.generate(**given, generation_config=GenerationConfig.from_pretrained({loaded}))
print(tokenizer.batch_decode(tokens[:, given["input_ids"].shape[1] :], skip_special_tokens=True))
```"""
    return f"""```python
from transformers import pipeline

answer = pipeline("text-generation", model={loaded}, do_sample=False, return_full_text=False)
print([each[0]["generated_text"] for each in answer({asked})])
```

Or without the pipeline:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({loaded})
model = AutoModelForCausalLM.from_pretrained({loaded})
given = tokenizer({asked}, return_tensors="pt", padding=True)
tokens = model.generate(**given)
print(tokenizer.batch_decode(tokens[:, given["input_ids"].shape[1] :], skip_special_tokens=True))
```"""


def _truth(manifest: Manifest) -> str:
    """Return what knowledge the labels had beside the members' own."""
    truth = "; ".join(manifest.marks) or "no true answer was used beyond the supervised difficulties"
    return "; ".join([truth, *manifest.remarks])  # whose labels were judged by more than the members themselves


def dataset_card(run: RunDirectory, name: str) -> str:
    """Return the README of a run's labels: a header for the hub, and what the columns mean.

    Args:
        run: the run.
        name: what the reader loads: a folder, or a repository of the hub.
    """
    restore(run)
    manifest, settings = run.manifest, run.settings
    task = Experiment(settings).task
    rounds = manifest.rounds[1:]
    labels = sum(record.proposed for record in rounds)
    size = next((name for bound, name in SIZES.items() if labels < bound), "10M<n<100M")
    truth = _truth(manifest)
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
    kept = load_dataset({json.dumps(name)}, split="train").filter(lambda row: row["kept"])
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
