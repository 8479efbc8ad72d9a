"""Live sound: a source, a sink, and the engine between them."""
