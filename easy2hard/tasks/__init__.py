"""Tasks: prompts that can be sampled at a difficulty, and, kept apart, the oracles that know their answers."""
