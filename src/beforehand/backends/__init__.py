"""What builds and runs engines. A new backend is one file here and one line in registry.py."""
