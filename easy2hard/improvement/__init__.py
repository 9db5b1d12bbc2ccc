"""Labelling, filtering and scheduling without any sight of a true answer (the oracle firewall)."""
