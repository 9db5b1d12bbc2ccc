"""Our own decoder by compiled loops on a processor: training, scoring and answering."""
