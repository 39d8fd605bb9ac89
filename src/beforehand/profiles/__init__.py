"""From the shapes that came to a segment to the profiles to build engines for; no TensorFlow, nothing is run."""
