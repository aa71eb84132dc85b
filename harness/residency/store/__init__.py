"""Models packed as blobs that nobody can write to."""
