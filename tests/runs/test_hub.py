"""Uploads to a hub: everything that was exported and nothing else, and only where a repository is named."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import huggingface_hub
import pytest
from hub import fake_hub
from huggingface_hub import constants

import easy2hard

Cli = Callable[..., CompletedProcess[str]]


@pytest.fixture(autouse=True)
def _a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_mine")


@pytest.mark.parametrize(("kind", "options"), [("models", []), ("datasets", ["--labels"])])
def test_what_is_exported_is_uploaded(
    kind: str, options: list[str], smoke: easy2hard.Run, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        assert cli("export", str(smoke.path), "at-home", *options).returncode == 0
        assert not hub.tokens  # nothing was asked of it
        done = cli("export", str(smoke.path), "out", *options, "--push", "me/copies")
    assert done.returncode == 0, done.stderr
    address = f"{hub.endpoint}/{'' if kind == 'models' else 'datasets/'}me/copies"
    assert done.stdout.endswith(f"(uploaded to {address})\n")
    assert hub.tokens == {"Bearer hf_mine"}
    assert [each["name"] for each in hub.made] == ["copies"]
    written = {str(path.relative_to("out")): path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    assert hub.files == {f"{kind}/me/copies": written}
    card = written["README.md"].decode()
    assert '"me/copies"' in card
    assert str(tmp_path) not in card.partition("```toml")[0]


@pytest.mark.parametrize(
    ("repo", "said"), [("a/b/c", "--push 'a/b/c': no name of a repository"), ("me/copies", "there is no token")]
)
def test_what_cannot_be_uploaded_to_is_said_before_anything_is_written(
    repo: str, said: str, smoke: easy2hard.Run, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    done = cli("export", str(smoke.path), "out", "--push", repo)
    assert (done.returncode, said in done.stderr, len(done.stderr.splitlines())) == (2, True, 1)
    assert not list(Path().iterdir())


@pytest.mark.parametrize("there", [True, False], ids=["refused", "unreachable"])
def test_a_hub_that_takes_nothing_is_a_line_and_the_folder_stays(
    there: bool, smoke: easy2hard.Run, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_hub(refuse=True) as hub:
        if there:
            monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
            done = cli("export", str(smoke.path), "out", "--labels", "--push", "me/copies")
    if not there:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)  # nobody listens any more
        done = cli("export", str(smoke.path), "out", "--labels", "--push", "me/copies")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert done.stderr.startswith("error: --push me/copies: ")
    assert ("403" if there else "refused") in done.stderr
    assert "`hf upload me/copies out --repo-type dataset` tries again" in done.stderr
    assert (Path("out") / "README.md").is_file()
