"""One machine: what `tunewell up` starts and keeps alive."""
