"""The rows of jobs, trials and fits, and every change of them."""
