"""The run directory and the order of a round."""
