"""Run by mkdocs: fills in the page of all commands, from the command line itself."""

from typing import Any

from typer.main import get_command

from easy2hard.cli import app
from easy2hard.cli.app import DATA, JUDGE, LOOK, TRAIN

MARK = "<!-- commands -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page as it is built."""
    return markdown.replace(MARK, commands_page()) if MARK in markdown else markdown


def commands_page() -> str:
    """Return every command there is, by group, with its arguments and options."""
    root: Any = get_command(app)
    parts = []
    for group in (TRAIN, LOOK, JUDGE, DATA):
        parts.append(f"## {group}")
        parts += [_command(name, each) for name, each in root.commands.items() if each.rich_help_panel == group]
    return "\n\n".join(parts)


def _command(name: str, command: Any) -> str:
    context = command.make_context(name, [], resilient_parsing=True)
    text, _, example = (command.help or "").partition("Example: ")
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    lines = [f"### {name}", "", text.strip(), "", f"`easy2hard {usage}`", "", "```sh", example.strip(), "```", ""]
    for each in command.params:
        term, meaning = each.get_help_record(context) or (each.make_metavar(context), "")
        if meaning and "--help" not in term:
            lines.append(f"- `{term}`: {' '.join(meaning.split())}")
    return "\n".join(lines)
