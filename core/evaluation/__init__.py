"""What `umt eval` measures: a translation, a model on paired music, a model on prepared data.

In: waveforms, or a translator and the location of its music. Out: score cards and plain values; the
command line turns them into tables and pages. The figures are defined in `core.metrics`.

- `analysis`: one waveform with its features, each computed once; its figures against a goal.
- `score_card`: figures beside their baselines, with intervals and normalised scores.
- `song`: a translation against its source and, if there are any, true renderings.
- `paired`: a model against the same notes truly played by the target.
- `model`: a model on held-out tracks: its family's figure and what its latents encode.
- `listening`: a blind listening test, and the statistics of its answers.
- `classifier_cache`: the timbre classifier, shipped or trained on the user's domains.
"""

EVALUATION_RATE = 44_100  # Hz; what audio is measured at, and every metric was calibrated at
