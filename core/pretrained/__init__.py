"""The bundled models and their reference statistics; data, no code."""
