"""The decoder and greedy decoding."""
