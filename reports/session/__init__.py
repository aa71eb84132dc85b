"""One pytest session: its options, what it selects, its items, its journal entries, its judge."""
