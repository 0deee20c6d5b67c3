"""Training data: prepared domains, segments of them, distortion."""
