"""What `umt eval` measures: a translation, a model on paired music, a model on prepared data.

In: waveforms, or a translator and where its music lies. Out: score cards and plain values, never
text; the command line shows them. What each figure means is in `core.metrics`.

- `sound`: one piece of audio, heard once, compared with many; all its figures in one mapping.
- `scorecard`: figures beside their yardsticks, with intervals and shares.
- `song`: a translation against its source and, if there are any, true renderings.
- `paired`: a model against the same notes truly played by the target.
- `model`: a model on held-out tracks: its family's figure and what its latents know.
- `listening`, `ratings`: a blind listening test, and what its listeners said.
- `calibration`: how well each metric tells right from wrong.
- `judge`: the timbre classifier to listen with.
"""

EVALUATION_RATE = 44_100  # Hz; what audio is measured at, and every metric was calibrated at
