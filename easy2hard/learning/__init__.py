"""Supervised and self-labelled data as batches, optimisers, and the training of members on them."""
