"""What is measured rather than tested: `python -m benchmarks`, ratios of things measured in the same run."""
