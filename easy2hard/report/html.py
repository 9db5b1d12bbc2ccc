"""Pages that open offline: what fills their templates. Every text is escaped, and a page may load nothing at all."""

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from easy2hard import __version__
from easy2hard.report.chart import Chart, number
from easy2hard.report.svg import picture


@dataclass(frozen=True)
class Section:
    """A part of a page with charts."""

    id: str
    title: str
    note: str
    charts: Sequence[Chart]


def filled(template: str, **values: Any) -> str:
    """Return a page: a template of the package with values, the style and the script."""
    templates = resources.files("easy2hard.report") / "templates"
    script = (templates / "page.js").read_text(encoding="utf-8")
    environment = Environment(
        loader=PackageLoader("easy2hard.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["picture"] = picture
    environment.filters["file_name"] = lambda text: re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-.").lower()
    environment.filters["csv"] = lambda chart: f"data:text/csv;charset=utf-8,{quote(chart.csv())}"
    return environment.get_template(template).render(
        style=Markup((templates / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
        **values,
    )
