"""Everything between a file or a pipe and mono float32 blocks; no torch.

`reading` opens any source as an `AudioInput` (through `sources`, `decoders`, `riff`, `mpeg`) and
reads it; `resampling` changes its rate; `levels` measures and adjusts loudness; `writing` makes
WAV, also over pipes, and what libsndfile writes (through `encoders`); `formats` knows extensions
and searches directories; `provenance` is the note in each output that says how it was made.
Nothing is imported here, so that one part does not load the libraries of the others.
"""
