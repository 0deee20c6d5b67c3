"""Scores of translations, one module a question; each is shaped like mir_eval's.

- `content`: is the source's music still there? Against the source.
- `timbre`: does it sound like the target? By a classifier and each domain's reference.
- `quality`: is it clean sound? By itself, and against a true rendering where there is one.

Each has `validate`, its metric functions and `evaluate`, and says in its docstring what a figure
means, its unit, its range, and what silence gives. A figure that is not defined is None, never NaN.
Waveforms are float [T] at any rate from 4 kHz up; all metrics listen at 16 kHz.
"""
