"""The one table of old and new keys: for error messages, and for reading runs of version 0.1."""

from typing import Any

SINCE = "0.2"
"""The version that renamed them."""

RENAMED = {
    "rounds.schedule": "schedule.name",
    "rounds.step": "schedule.stride",
    "rounds.readiness": "schedule.readiness",
    "rounds.ready": "schedule.ready",
    "rounds.probe": "schedule.probe",
    "rounds.most": "schedule.most",
    "rounds.labels": "labels.count",
    "rounds.top_up": "labels.top_up",
    "rounds.least_acceptance": "labels.least_acceptance",
    "rounds.temperature": "labels.temperature",
    "rounds.samples": "labels.samples",
    "rounds.averaging": "labels.averaging",
    "rounds.relabel": "labels.relabel",
    "rounds.counter_examples": "labels.counter_examples",
    "rounds.filters": "labels.filters",
}
"""Old key -> new key, as ``--set`` names them."""


def old_keys(values: dict[str, Any]) -> list[str]:
    """Return which old keys settings have, in the order of the table."""
    found = []
    for old in RENAMED:
        section, key = old.split(".")
        if isinstance(values.get(section), dict) and key in values[section]:
            found.append(old)
    return found


def renamed(values: dict[str, Any]) -> str | None:
    """Return a line that says what the old keys among settings are called now; None where there are none."""
    now = [f"{old} is now {RENAMED[old]}" for old in old_keys(values)]
    return f"settings renamed in version {SINCE}: {', '.join(now)}" if now else None


def translated(values: dict[str, Any]) -> dict[str, Any]:
    """Return settings with new keys for old ones; an old key whose new one is there too is left, to be refused."""
    new = {name: dict(each) if isinstance(each, dict) else each for name, each in values.items()}
    for old in old_keys(values):
        (section, key), (new_section, new_key) = old.split("."), RENAMED[old].split(".")
        target = new.setdefault(new_section, {})
        if isinstance(target, dict) and new_key not in target:
            target[new_key] = new[section].pop(key)
    return new
