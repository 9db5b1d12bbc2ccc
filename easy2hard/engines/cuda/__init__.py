"""All members at once on a GPU: stacked weights, shapes that stay, steps that are captured once and replayed."""
