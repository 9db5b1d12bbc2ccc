"""What the oracle says afterwards: exact match and label quality. Nothing here feeds back into training."""
