"""Scores of translations and of models, one module a question.

Of a piece of audio; `core.evaluation.sound` puts these together:

- `content`: is the source's music still there, its pitches and its timing?
- `transcription`: are the source's notes still there? An extra.
- `timbre`: does it sound like the target? By a classifier and each domain's reference.
- `quality`: is it clean sound?
- `log_spectral`: how far is it from a true rendering?

Of a model:

- `latents`: do its latents know the instrument, or the note?
- `coding`: how many bits does a small model need for the same audio?

Each says in its docstring what a figure means, its unit, its range, and when it is not defined;
then it is None, never NaN. Waveforms are float [T] at any rate from 4 kHz up; metrics listen at
16 kHz (`spectra`), but for what `quality` says of clipping and of sound out of the target's band,
which is taken at the waveform's own rate. `catalogue` has every metric of a translation in one
table; the other modules are what these are made of.
"""
