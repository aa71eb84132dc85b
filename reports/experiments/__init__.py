"""What is one experiment's own in a report: its numbers, its tables, its source's files."""
