"""Everything between a file or a pipe and mono float32 blocks; no torch.

`reading` opens any source as an `AudioInput` and resamples its blocks; `levels` measures and
adjusts loudness; `writing` makes WAV (also over pipes) and what libsndfile writes; `provenance`
is the note in each output that says how it was made. `formats`, `decoders` and `riff` serve
`reading`. Nothing is imported here, so that one part does not load the libraries of the others.
"""
