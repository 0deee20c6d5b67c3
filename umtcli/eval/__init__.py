"""`umt eval`: reads what is to be measured, calls `core.evaluation`, writes tables and pages.

- `options`: the command's options, and where its page goes.
- `inputs`: audio with its source and references.
- `audio`, `paired`, `model`, `listening`: the four things that can be evaluated.
- `tables`: score cards as text, for terminals, pages and JSON.
- `page`, `media`, `templates/`: self-contained HTML pages.
"""

JSON_VERSION = 2  # of what `umt eval --json` writes
