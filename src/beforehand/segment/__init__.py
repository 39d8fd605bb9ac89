"""Which nodes may enter an engine, and why not; convex segments; cut one out."""
