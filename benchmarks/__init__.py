"""Speed and memory beside what people use today; never part of the package."""
