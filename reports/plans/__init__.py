"""How often something must be measured, what that takes, and how it is told."""
