"""Everything between a file or a pipe and mono float32 blocks; no torch.

Reading: `reader` opens any source as an `AudioInput`; `sources` chooses how; `file_readers` (with
`wav`, `mpeg` and `joined`) and `ffmpeg` get samples out of bytes; `downmix` makes them mono.
Writing: `writer`, with `wav_writer`. Between the two, `resampling` changes the rate, `levels`,
`live_level` and `loudness` how loud it is, and `percussion` takes drums out. `formats` has the
extensions and searches directories; `tags` and `provenance` are the texts inside files. Nothing is
imported here, so that one part does not load the libraries of the others.
"""
