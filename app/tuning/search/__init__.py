"""Search spaces and their candidates: pure, without SQL."""
