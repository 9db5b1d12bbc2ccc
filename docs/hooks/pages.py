"""Run by mkdocs: fills in the page of all settings, and turns links out of docs/ into plain text.

Links such as ``../RESULTS.md`` are for readers of the repository; the site has the pages of docs/ only. A page that
mkdocs.yml does not name comes last in the navigation, so that a new one is never lost.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from easy2hard.settings.docs import SettingsSection, filter_sections, sections
from easy2hard.settings.recipes import recipe_names
from easy2hard.settings.renamed import RENAMED, SINCE

MARK = "<!-- settings -->"


def on_config(config: Any) -> Any:
    """Add the pages that the navigation does not name to its last section."""
    named = {page for part in config["nav"] for pages in part.values() for each in pages for page in each.values()}
    (last,) = config["nav"][-1].values()
    root = Path(config["docs_dir"])
    last += sorted({page.relative_to(root).as_posix() for page in root.rglob("*.md")} - named)
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return the page as it is built."""
    folder = posixpath.dirname(page.file.src_uri)

    def kept(link: re.Match[str]) -> str:
        outside = posixpath.normpath(posixpath.join(folder, link[2])).startswith("..")
        return link[1] if outside else link[0]

    markdown = re.sub(r"(?<!!)\[([^\]]+)\]\((\.\./[^)]*)\)", kept, markdown)
    return markdown.replace(MARK, settings_page()) if MARK in markdown else markdown


def settings_page() -> str:
    """Return every setting there is, by section."""
    parts = [_section(section, f"[{section.name}]" if section.name else "On top") for section in sections()]
    parts += ["## Filters", "The tables that `labels.filters` is a list of; each has its `name`."]
    parts += [_section(section, f'name = "{section.name}"', level=3) for section in filter_sections()]
    parts += ["## Renamed", f"Since version {SINCE}; a recipe or `--set` with an old name is refused with the new one."]
    parts += ["\n".join(["| was | is |", "|---|---|", *(f"| `{old}` | `{new}` |" for old, new in RENAMED.items())])]
    parts += ["## Shipped recipes", ", ".join(f"`{name}`" for name in recipe_names())]
    return "\n\n".join(parts)


def _section(section: SettingsSection, title: str, level: int = 2) -> str:
    lines = [f"{'#' * level} `{title}`" if section.name else f"{'#' * level} {title}", "", _prose(section.summary)]
    lines.append("")
    for each in section.settings:  # a list, not a table: a telephone is too narrow for four columns
        kind = f"`{each.kind}`" + (f" ({each.limits})" if each.limits else "")
        default = each.default if each.default in ("required", "not set") else f"default `{each.default}`"
        lines.append(f"- **`{each.path}`** — {kind}, {default}. {_prose(each.description)}")
    return "\n".join(lines)


def _prose(text: str) -> str:
    return " ".join(text.replace("``", "`").split())
