"""Whether a translation sounds like its target, according to an independent classifier.

Definition: a small network classifies windows of two seconds by their domain. It reads features of
the audio (`features`) and is trained on recordings of the same domains as the translating model
(`training`), but never on that model's latents or output, and no model is trained against it.

`target_probability`: probability of the target domain, mean over windows; 0 to 1, higher is better.
`source_probability`: the same of the domain that the source is in; lower is better. Chance is one
    over the number of domains.
`frechet_distance`, `kernel_distance`: see `distances`.

Limits: the classifier knows its training audio only. It gives probabilities to sound that is like
none of its domains, noise included, and it still recognises smeared sound half of the time; whether
sound is clean is measured by `core.metrics.quality`. On rendered data, audio from an unseen
SoundFont may be classified wrongly. Each figure needs its baselines beside it: the true target's
and the untranslated copy's.

Conventions: silence and less than 0.25 s have no windows, and every value is None.
"""

from core.metrics.timbre.classifier import TimbreClassifier
from core.metrics.timbre.distances import DomainReference, frechet_distance, kernel_distance

__all__ = ["DomainReference", "TimbreClassifier", "frechet_distance", "kernel_distance"]
