"""From a claim and the stored tests to a word: which test speaks, what its form asks, what is decided."""
