"""What can be searched, and how: pure, without SQL."""
