"""The front door keeps short, its links lead somewhere, and the generated page of commands has all of them."""

import re
import runpy
from pathlib import Path

import pytest

from easy2hard.cli import app

ROOT = Path(__file__).parents[2]
FRONT = ["README.md", "RESULTS.md", "CONTRIBUTING.md", "LOG.md"]
"""mkdocs checks the links of docs/; these pages are none of its own."""


@pytest.mark.parametrize(("page", "most"), [("README.md", 700), ("RESULTS.md", 900)])
def test_the_front_pages_are_short(page: str, most: int) -> None:
    assert len((ROOT / page).read_text().split()) <= most


def anchors(page: Path) -> set[str]:
    """Return the names that a page's headings have in links, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*FRONT, *sorted(str(each.relative_to(ROOT)) for each in ROOT.glob("docs/**/*.md"))])
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(), flags=re.DOTALL)
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", text):
        linked = (path.parent / target) if target else path
        assert linked.exists(), f"{page}: {target}"
        if anchor and linked.name != "settings.md":  # most of its headings are made when the site is built
            assert anchor in anchors(linked), f"{page}: {target}#{anchor}"


def test_the_page_of_commands_has_every_command() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "hooks" / "commands.py"))["commands_page"]()
    names = [info.name or info.callback.__name__ for info in app.registered_commands if info.callback]
    assert sorted(re.findall(r"^### (.*)$", page, flags=re.MULTILINE)) == sorted(names)
    assert page.count("```sh\n") == len(names)
    assert "--json" in page
    assert "--help" not in page
