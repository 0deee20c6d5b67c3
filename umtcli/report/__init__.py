"""Pages that stand alone: one HTML file with its audio, pictures, styles and scripts inside.

- `media`: audio and spectrograms as data URIs.
- `page`: the frame of a page; everything that comes from outside is escaped there.
- `results`: what `umt eval --html` found out, as a page.
- `listening`: the page of a listening test.
"""
