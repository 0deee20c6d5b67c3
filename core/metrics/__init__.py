"""Metrics of translations and of models, one module a question.

Of a piece of audio; `core.evaluation.analysis` combines them:

- `content`: is the source's music still there, its pitches and its timing?
- `transcription`: are the source's notes still there? An optional extra.
- `timbre`: does it sound like the target? A classifier and each domain's reference statistics.
- `quality`: is it clean sound?
- `log_spectral`: how far is it from a true rendering?

Of a model:

- `latents`: do its latents encode the instrument, or the note? (`tones` synthesises the notes)
- `linear_prediction`: how many bits does a small model need for the same audio?

`catalogue` lists every metric of a translation. `intervals` computes uncertainty, `degradations`
the baselines. `spectra`, `partials` and `alignment` are shared by the metrics.

Each module's docstring gives definition, citation, unit and range, and when a figure is undefined;
then it is None, never NaN. Waveforms are float [T] at any rate from 4 kHz up. They are analysed at
16 kHz, but for clipping and sound out of the target's band, which are measured at the waveform's
own rate.
"""
