"""One idea a file; each registers makers of models (see registry.py), which make_model.py finds by themselves."""
