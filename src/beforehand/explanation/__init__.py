"""What of a model would run in engines, what would not, and why: before anything is built.

Not named after its function, `beforehand.explain`: a package of that name would hide it.
"""
