"""Two runs side by side: what differs around them, how far each number moved, and what that is called."""
