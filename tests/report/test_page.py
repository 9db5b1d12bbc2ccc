"""The report: what it says, that it says it of any run, and that nothing of a run is anything but text in it."""

import base64
import fcntl
import hashlib
import re
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from whole_runs import Label, copy_labels, full_run, label

from easy2hard.errors import UserError
from easy2hard.evaluation.audit import audit_ledger
from easy2hard.report import rundata
from easy2hard.report.chart import Axis, Chart, number
from easy2hard.report.command import command_of
from easy2hard.report.compare import groups_of, spread_line
from easy2hard.report.page import render, write_report
from easy2hard.report.rundata import read_run
from easy2hard.report.svg import heat_colour, picture
from easy2hard.report.words import duration
from easy2hard.runs.manifest import RunDirectory
from easy2hard.settings.recipes import load_recipe
from easy2hard.tasks.registry import load_oracle, load_task

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}&lt;"


class Page(HTMLParser):
    """The elements and the visible text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.marked: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "input", "br"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"{tag} is closed where it is not open"
        if tag in ("th", "td", "dt", "dd"):
            self.text += " "

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "mark":
            self.marked.append(data)
        if self._open and self._open[-1] not in ("style", "script"):
            self.text += data

    def titles(self) -> list[str | None]:
        return [attributes.get("aria-label") for tag, attributes in self.tags if tag == "svg" and "role" in attributes]


def page_of(*runs: RunDirectory) -> Page:
    return Page(render([read_run(run.path) for run in runs]))


def assert_harmless(text: str) -> None:
    """Nothing is loaded, one script runs and it is ours."""
    page = Page(text)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert "default-src 'none'" in text
    assert not [
        tag for tag, _ in page.tags if tag in ("img", "iframe", "object", "embed", "form", "base", "image", "use")
    ]
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "xlink:href", "srcset")]
        assert (attributes.get("href") or "#").startswith(("#", "data:,", "data:text/csv;"))


def test_a_page_answers_how_far_whether_to_trust_it_and_what_it_cost(tmp_path: Path) -> None:
    run = full_run(tmp_path / "run")
    page = page_of(run)
    assert_harmless(render([read_run(run.path)]))
    said = [
        "Taught copy up to 3 digits with true answers: how far does it get with its own labels?",
        "It reaches 5 digits: up to there, exact match is not significantly below 0.99 "
        "(1,000 prompts each, members' mean, round 2).",
        "Its labels cannot all be trusted: 0.7143 of those kept are right",
        "reach at 0.99 5 digits taught to 3 digits",
        "How far did it get? Accuracy by difficulty",
        "How it was made This command",
    ]
    places = [page.text.index(text) for text in said]
    assert places == sorted(places), "the verdict, then the figures, then charts, then details"
    titles = " ".join(filter(None, page.titles()))
    for title in ("Accuracy by difficulty", "Round and difficulty", "Reach", "Label precision", "Label recall",
                  "Labels kept", "Agreement and confidence", "Calibration", "Loss", "Learning rate", "Time",
                  "Tokens"):  # fmt: skip
        assert f"{title}: " in titles
    assert all(f"{key}" in page.text for key in ("labels.count", "supervised.steps", "optimiser.name"))


def test_its_label_precision_is_that_of_the_audit(tmp_path: Path) -> None:
    run = full_run(tmp_path / "run")
    oracle = load_oracle(load_task("copy"))
    for data in read_run(run.path).rounds[1:]:
        audit = audit_ledger(run.ledger_path(data.record.round), oracle, ["unfinished", "vote", "confidence"])
        assert data.audit == audit
        assert audit["precision"] == 5 / 7
    shares = "0.7143 of those kept are right, 0.7143 in the worst round."
    assert f"{shares} Label precision first fell below 0.99 in round 1." in page_of(run).text
    right = full_run(tmp_path / "right", labels=lambda *of: [label("2468=", "2468")])
    assert "Its labels can be trusted: all of those kept are right." in page_of(right).text


def test_the_baseline_of_the_task_is_beside_the_members(tmp_path: Path) -> None:
    """The members have 1.0 at difficulties 1 to 3, where they were taught."""
    for name, score, noted in (("beaten", 0.9, False), ("unbeaten", 1.0, True)):
        page = page_of(full_run(tmp_path / name, baseline=dict.fromkeys("12345", score)))
        assert "the task's baseline" in page.text
        assert f"has exact match {number(score)} at 5 digits; this run has 1." in page.text
        assert ("Round 0: the members are no better than the task's baseline at difficulty 1-3" in page.text) == noted
    assert "task's baseline" not in page_of(full_run(tmp_path / "without")).text


def test_examples_show_the_first_wrong_token(tmp_path: Path) -> None:
    def labels(number_: int, difficulty: int) -> list[Label]:
        return [
            label("1234=", "1234"),
            label("1235=", "1935"),
            label("1236=", "123"),
            label("1237=", "12378"),
            label("1238=", "7238", "vote"),
        ]

    page = page_of(full_run(tmp_path / "run", rounds=2, labels=labels))
    assert sorted(page.marked) == ["7", "8", "9", "⏎"]
    assert "wrong digit at position 2: 9 instead of 2" in page.text
    assert "dropped by vote; wrong digit at position 1: 7 instead of 1" in page.text


def test_everything_of_a_run_is_text(tmp_path: Path) -> None:
    def labels(number_: int, difficulty: int) -> list[Label]:
        return [label(HOSTILE, HOSTILE), label(HOSTILE, HOSTILE, HOSTILE)]

    run = full_run(tmp_path / "run <i>", task=HOSTILE, labels=labels, status=HOSTILE)
    text = render([read_run(run.path)])
    assert_harmless(text)
    page = Page(text)
    assert page.text.count("<script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}&lt;") > 6
    assert "run <i>" in page.text
    assert "no oracle" in page.text
    assert "up to difficulty 3 with true answers" in page.text
    assert "Label precision: " not in " ".join(filter(None, page.titles()))
    other = full_run(tmp_path / "other", seed=1, task=HOSTILE, labels=labels)
    assert_harmless(render([read_run(run.path), read_run(other.path)]))


def test_prompts_that_are_none_leave_label_precision_out_alone(tmp_path: Path) -> None:
    page = page_of(full_run(tmp_path / "run", labels=lambda *of: [label("1<b>x=", "1<b>x")]))
    assert "fails on the labels of round 2" in page.text
    assert "1<b>x=" in page.text


def garbage(path: Path) -> None:
    path.write_bytes(b"\x00\xff garbage <script>")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [Path.unlink, garbage, cut], ids=["missing", "garbage", "cut off"])
@pytest.mark.parametrize(
    "name", ["manifest.json", "settings.toml", "training/round-001.csv", "ledger/round-001.parquet"]
)
def test_damage_is_named_and_the_rest_is_shown(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    run = full_run(tmp_path / "run")
    damage(run.path / name)
    text = render([read_run(run.path)])
    assert_harmless(text)
    page = Page(text)
    assert f"Damaged: {name}" in page.text
    assert "Loss: " in " ".join(filter(None, page.titles()))
    assert "0.7143 of those kept are right" in page.text


def test_a_changed_manifest_is_named_and_used(tmp_path: Path) -> None:
    run = full_run(tmp_path / "run")
    file = run.path / "manifest.json"
    file.write_text(file.read_text().replace('"threads": 1', '"threads": 7'))
    page = page_of(run)
    assert "Damaged: manifest.json: damaged: it was changed after it was written" in page.text
    assert "It reaches 5 digits: " in page.text


def test_a_run_that_has_only_begun_stands_beside_others(tmp_path: Path) -> None:
    runs = [full_run(tmp_path / "done"), full_run(tmp_path / "begun", rounds=0, task="reverse", status="running")]
    text = write_report([run.path for run in runs], tmp_path / "page.html").read_text()
    assert "Round and difficulty: done" in text
    assert "Round and difficulty: begun" not in text


def test_a_run_that_has_only_begun_has_a_page(tmp_path: Path) -> None:
    page = page_of(full_run(tmp_path / "run", rounds=0, status="running"))
    assert "Nothing is measured yet." in page.text
    assert "The run was killed" in page.text
    page = page_of(full_run(tmp_path / "first", rounds=1, status="running"))
    assert "It reaches 3 digits: " in page.text
    assert "(1,000 prompts each, members' mean, round 0)" in page.text


def test_a_running_run_is_told_from_a_killed_one_by_its_lock(tmp_path: Path) -> None:
    run = full_run(tmp_path / "run", status="running")
    with (run.path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "status running" in page_of(run).text
    assert "status killed" in page_of(run).text


def test_a_gap_is_said(tmp_path: Path) -> None:
    run = full_run(tmp_path / "run", accuracy=lambda number: {"1": 1.0, "2": 0.98, "3": 0.99, "4": 0.5})
    text = page_of(run).text
    assert "It reaches 1 digit: " in text
    assert "At 2 digits it is below; the hardest that is not is 3 digits." in text
    run = full_run(tmp_path / "none", accuracy=lambda number: {"1": 0.98, "2": 0.5})
    assert "It reaches nothing: exact match is significantly below 0.99 even where it is easiest" in page_of(run).text


def test_what_the_run_must_confess_is_on_top(tmp_path: Path) -> None:
    run = full_run(tmp_path / "run")
    text = (run.path / "manifest.json").read_text()
    (run.path / "manifest.json").write_text(
        text.replace('"supervised_signals": []', '"supervised_signals": ["labels.filters: verifier"]')
    )
    assert "NOT self-improvement: labels.filters: verifier" in page_of(run).text


def test_mazes_are_drawn_with_the_answers_way(tmp_path: Path) -> None:
    maze = "3>1#1:2-2:3,1-3:2,4-4:3="

    def labels(number_: int, difficulty: int) -> list[Label]:
        return [label(maze, "3>2>1"), label(maze, "3>1"), label(maze, ">3", "vote")]

    page = page_of(full_run(tmp_path / "run", rounds=2, task="maze-hops", labels=labels, options={"nodes": 4}))
    classes = [attributes.get("class") for tag, attributes in page.tags if tag in ("path", "svg")]
    assert classes.count("maze") == 3
    assert classes.count("wall") == 9
    assert classes.count("way") == 2
    assert classes.count("no-way") == 1
    assert classes.count("true-way") == 4  # of the two wrong answers
    assert "maze of 4 nodes, from 3 to 1; the answer goes 3>2>1" in page.titles()
    assert page.marked[0] == "1"


def test_pairs_have_a_grid_for_each_round(tmp_path: Path) -> None:
    def accuracy(round_: int) -> dict[str, float]:
        size = 3 + round_
        return {f"{a}x{b}": 1.0 if max(a, b) < size else 0.25 for a in range(1, size + 1) for b in range(1, size + 1)}

    run = full_run(tmp_path / "run", task="multiplication", accuracy=accuracy, labels=lambda *of: [])
    page = page_of(run)
    grids = [title for title in page.titles() if title and title.startswith("round ")]
    assert grids == [f"round {i}: exact match of every pair" for i in range(3)]
    assert [a for tag, a in page.tags if (a.get("class") or "").startswith("cell")].__len__() == 9 + 16 + 25
    assert "up to 3x3 with true answers" in page.text
    assert "It reaches 4x4: " in page.text


def test_a_rectangle_of_pairs_is_called_by_its_sides(tmp_path: Path) -> None:
    def accuracy(round_: int) -> dict[str, float]:
        return {f"{a}x{b}": 1.0 for a in (1, 2) for b in (1, 2, 3)}

    options = {"first": 2, "second": 3}
    run = full_run(tmp_path / "run", task="multiplication", options=options, accuracy=accuracy, labels=lambda *of: [])
    text = page_of(run).text
    assert "up to 2x3 with true answers" in text
    assert "It reaches 2x3: " in text


def test_runs_that_differ_in_their_seed_alone_are_one_group(tmp_path: Path) -> None:
    runs = [full_run(tmp_path / f"copy-seed{seed}", seed=seed) for seed in range(3)]
    other = full_run(tmp_path / "other", steps=30)
    read = [read_run(run.path) for run in [*runs, other]]
    groups = groups_of(read)
    assert [(group.name, len(group.runs)) for group in groups] == [("copy (3 seeds)", 3), ("other", 1)]
    page = page_of(*runs, other)
    assert "Reach: 6 (5 to 7) digits, the mean of 3 seeds." in page.text
    assert "copy-seed1: easy2hard run " in page.text, "each run has its command"
    assert "rounds.steps 20 30" in page.text
    assert_harmless(render(read))


def test_seeds_are_a_mean_with_their_range() -> None:
    line = spread_line("g", 0, [{1.0: 0.2, 2.0: 0.5}, {1.0: 0.4}, {1.0: 0.9, 2.0: 0.7}])
    assert line.points == [(1.0, pytest.approx(0.5)), (2.0, pytest.approx(0.6))]
    assert line.band == [(1.0, 0.2, 0.9), (2.0, 0.5, 0.7)]


def test_a_large_ledger_is_sampled_and_the_page_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = full_run(tmp_path / "run", rounds=2, labels=lambda n, d: copy_labels(n, d) * 100)
    assert "evenly spread" not in page_of(run).text
    monkeypatch.setattr(rundata, "LABELS", 400)
    read = read_run(run.path)
    assert read.sampled
    assert read.rounds[1].audit is not None
    assert read.rounds[1].audit["proposed"] == 334
    tokens = 2 * sum(len(each["prompt"]) + len(each["answer"]) for each in copy_labels(1, 4) * 100)
    assert read.rounds[1].label_tokens == pytest.approx(tokens, rel=0.1)
    assert "evenly spread" in page_of(run).text


def test_a_page_of_sixty_rounds_is_small(tmp_path: Path) -> None:
    out = write_report([full_run(tmp_path / "run", rounds=61).path], None)
    assert out == tmp_path / "run" / "report.html"
    assert out.stat().st_size < 2_000_000


def test_a_run_given_twice_or_none_is_refused(tmp_path: Path) -> None:
    run = full_run(tmp_path / "run")
    with pytest.raises(UserError, match="given 2 times"):
        write_report([run.path, tmp_path / "x" / ".." / "run"], None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="not a run directory"):
        write_report([tmp_path / "empty"], None)


def test_a_report_does_not_load_torch(tmp_path: Path) -> None:
    run = full_run(tmp_path / "run")
    program = (
        "import sys; from pathlib import Path; from easy2hard.report.page import write_report;"
        f"write_report([Path({str(run.path)!r})], None); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0.0 s"), (59.9, "59.9 s"), (303, "5 min 3 s"), (3900, "1 h 5 min"), (90000, "1 d 1 h")]
)
def test_times_are_said_in_their_greatest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_heat_colours_grow_lighter_so_that_grey_shows_them_too() -> None:
    colours = [bytes.fromhex(heat_colour(value)[1:]) for value in np.linspace(0, 1, 50)]
    lightness = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in colours]
    assert lightness == sorted(lightness)


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0, "0"), (1.0, "1"), (1234567, "1,234,567"), (0.99951, "0.9995"), (3e-5, "3e-05")]
)
def test_figures_are_short(value: float | None, text: str) -> None:
    assert number(value) == text


def test_a_chart_without_data_is_still_a_chart() -> None:
    svg, legend = picture(Chart("t", "n", Axis("x"), Axis("y")))
    assert svg.startswith("<svg")
    assert legend == []


def test_what_can_be_downloaded_is_named_by_its_chart(tmp_path: Path) -> None:
    page = page_of(full_run(tmp_path / "A run"))
    files = [attributes["download"] for tag, attributes in page.tags if tag == "a" and "download" in attributes]
    figures = [
        attributes["data-file"] for tag, attributes in page.tags if tag == "figure" and "data-file" in attributes
    ]
    assert files == [f"{name}.csv" for name in figures]
    assert len(set(files)) == len(files) >= 12
    assert "a-run-accuracy-by-difficulty.csv" in files
    for what in ("data (CSV)", "picture (SVG)", "picture (PNG)", "data as a table"):
        assert f"Accuracy by difficulty: {what}" in page.text, "a screen reader lists links without what is around them"
    shown = [attributes for tag, attributes in page.tags if tag == "button"]
    assert {attributes.get("data-picture", attributes.get("class")) for attributes in shown} == {"svg", "png", "copy"}


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_the_command_gives_the_settings_of_the_run(data: st.DataObject) -> None:
    """As a shell splits it: a recipe, or a file, and what is set besides."""
    name = data.draw(st.sampled_from(["smoke", "copy-cpu", "multiplication-cpu", "maze-nodes-cpu", "copy-paper"]))
    sets = {
        "rounds.count": st.integers(0, 50),
        "description": st.sampled_from(["", 'it\'s "mine"; $HOME']),
        "model.positions": st.sampled_from(["none", "rotary"]),
        "labels.filters": st.just([{"name": "confidence", "keep": 0.25}]),
        "budget.steps": st.just(10_000_000),
        "optimiser.eps": st.just(1e-12),
    }
    chosen = data.draw(st.fixed_dictionaries({}, optional=sets))
    scale = data.draw(st.sampled_from([None, "laptop"]))
    made = load_recipe(name, replaced={**chosen, "seed": data.draw(st.integers(0, 3))}, scale=scale)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "settings.toml").write_text(made.to_toml())
        words = shlex.split(command_of(read_run(Path(folder), labels=False)) or "")
    assert words[:2] == ["easy2hard", "run"]
    options = dict[str, list[str]]()
    for option, value in zip(words[3::2], words[4::2], strict=True):
        options.setdefault(option, []).append(value)
    seeds = dict.fromkeys(["seed"] if "--seed" in options else [], int(options.get("--seed", ["0"])[0]))
    assert words[2] == name or "description" in chosen
    if words[2] == name:
        assert load_recipe(name, options.get("--set", []), seeds, *options.get("--scale", [])) == made
    else:
        assert words[2].endswith("/settings.toml")
        assert options.keys() == {"--out"}


def test_a_command_repeats_how_the_run_was_begun(tmp_path: Path) -> None:
    run = full_run(tmp_path / "run")
    file = run.path / "manifest.json"
    file.write_text(file.read_text().replace('"blindfold": false', '"blindfold": true'))
    assert command_of(read_run(run.path)) == f"easy2hard run {run.path}/settings.toml --blindfold --out run-again"
    shutil.copytree("tests/data/run-0.1", tmp_path / "old")
    assert (command_of(read_run(tmp_path / "old")) or "").startswith("easy2hard run smoke --set model.width=16 ")
    old = (tmp_path / "old" / "settings.toml").read_text()
    (tmp_path / "old" / "settings.toml").write_text(re.sub("^description = .*", 'description = "mine"', old))
    assert command_of(read_run(tmp_path / "old")) is None, "of no recipe, and with names that settings no longer have"
    assert "its settings file cannot be run by this version" in page_of(RunDirectory(tmp_path / "old")).text


def _shown(page: Path) -> str:
    """Return the document as a browser has it after its scripts; it complains about nothing."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=5000"]
    shown = subprocess.run(
        ["chromium", *options, f"--user-data-dir={page.parent}/profile", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "CONSOLE" not in shown.stderr
    return shown.stdout


PICTURES = """
let made = 0;
const add = (id, text) => {
  const note = Object.assign(document.createElement("pre"), { id, textContent: text });
  document.body.append(note);
};
URL.createObjectURL = (blob) => {
  const number = made++;
  const reader = new FileReader();
  reader.onload = () => add("blob-" + number, reader.result);
  reader.readAsDataURL(blob);
  return "#" + number;
};
HTMLAnchorElement.prototype.click = function () { add("link" + this.getAttribute("href"), this.download); };
for (const button of document.querySelectorAll("#accuracy button[data-picture]")) button.click();
"""


@pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium here")
def test_a_browser_makes_the_pictures_of_charts(tmp_path: Path) -> None:
    """Every button is pressed; an SVG needs no style sheet, a PNG is three times as wide, and nothing is refused."""
    text = render([read_run(full_run(tmp_path / "run").path)])
    digest = base64.b64encode(hashlib.sha256(PICTURES.encode()).digest()).decode()
    text = text.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    (tmp_path / "page.html").write_text(text.replace("</body>", f"<script>{PICTURES}</script></body>"))
    dom = _shown(tmp_path / "page.html")
    names = dict(re.findall(r'<pre id="link#(\d+)">([^<]*)</pre>', dom))
    blobs = {number: base64.b64decode(text) for number, text in re.findall(r'id="blob-(\d+)">data:[^,]*,([^<]*)', dom)}
    made = {names[number]: blob for number, blob in blobs.items()}
    charts = ["accuracy-by-difficulty", "reach", "round-and-difficulty"]
    assert sorted(made) == [f"run-{name}.{kind}" for name in charts for kind in ("png", "svg")]
    for name in charts:
        svg = ElementTree.fromstring(made[f"run-{name}.svg"])
        assert not [each for each in svg.iter() for key in ("class", "style") if each.get(key)]
        colours = {each.get(key) for each in svg.iter() for key in ("fill", "stroke")} - {None, "none"}
        assert all(re.fullmatch("#[0-9a-f]{6}", colour or "") for colour in colours)
        assert len(colours) > 5
        size = struct.unpack(">II", made[f"run-{name}.png"][16:24])
        assert size == tuple(3 * int(svg.attrib[key]) for key in ("width", "height"))


@pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium here")
def test_a_browser_shows_it_without_a_word_of_complaint(tmp_path: Path) -> None:
    out = write_report([full_run(tmp_path / "run", task=HOSTILE).path], tmp_path / "page.html")
    page = Page(_shown(out))
    sliders = [attributes for _, attributes in page.tags if attributes.get("class") == "slider"]
    assert sliders
    assert all("hidden" not in attributes for attributes in sliders), "the script did not run"
