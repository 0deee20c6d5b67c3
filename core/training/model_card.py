"""The page of a run's model: a `README.md` as the Hugging Face Hub shows it.

In: a model with its training record. Out: Markdown with the hub's header. Only what is known is
stated; a licence is not, because it depends on the recordings. The last line holds a hash of the
others, by which a page that somebody has edited is told from one that may be replaced.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from typing import TYPE_CHECKING, Any

from core.data.domain import SPLITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from core.translator import Translator

CARD_FILE = "README.md"
_HEADER = """\
---
library_name: umt
pipeline_tag: audio-to-audio
tags:
- audio
- music
- music-translation
- timbre-transfer
- umt
---
"""
_MARK = "<!-- Written by umt train, which replaces this page unless it was edited: "
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~&])")


def model_card(model: Translator, name: str) -> str:
    """Return the page of a model.

    Args:
        model: With its training record; see `core.model_file.ModelHeader`.
        name: The run's, which is proposed as the repository's.
    """
    record = model.training_record
    repository = f"OWNER/{re.sub(r'[^A-Za-z0-9.-]+', '-', name).strip('.-') or 'NAME'}"
    target = shlex.quote(model.domains[0])
    domains = ", ".join(map(_plain, model.domains))
    text = f"""{_HEADER}
# {_plain(name)}

A model of `umt`, which translates music from one instrument to another: the notes stay, the sound
changes. Whatever it is given, it plays on {domains}.

```sh
umt translate song.wav --to {target} -m hf:{repository}
```

{_facts(model)}

## Held-out figures

{model.family_description.figure} on recordings that training did not use, after
{record.get("steps", 0):,} updates; lower is better. Beside it are figures that need no learning: a
decoder that is no better than those makes noise.

{_figures(record)}

## Training data

{_data(record)}

## Licence

Not stated. What may be done with a model depends on the recordings that it learned from: if you
know, add `license:` to the header of this page.
"""
    return f"{text}\n{_mark(text)}\n"


def may_replace(path: Path) -> bool:
    """Tell whether a page is missing, or as `model_card` wrote it."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return True
    except (OSError, UnicodeDecodeError):
        return False
    content, _, _ = text.rpartition(f"\n{_MARK}")
    return text == f"{content}\n{_mark(content)}\n"


def _mark(content: str) -> str:
    return f"{_MARK}{hashlib.sha256(content.encode()).hexdigest()[:16]} -->"


def _facts(model: Translator) -> str:
    record = model.training_record
    n_parameters = sum(tensor.numel() for tensor in model.parameters())
    rows = [
        ("domains", ", ".join(map(_plain, model.domains))),
        ("networks", f"family {model.config.model.family}, preset {model.config.preset}"),
        ("parameters", f"{n_parameters:,}"),
        ("sample rate", f"{model.sample_rate:,} Hz"),
        ("latents", f"{model.latent_dim} numbers, {model.latent_rate:.1f} times a second"),
        (
            "trained for",
            f"{record.get('steps', 0):,} updates, {record.get('seconds', 0) / 3600:.1f} hours",
        ),
    ]
    if parent := record.get("parent"):
        known = ", ".join(map(_plain, parent["domains"]))
        rows.append(("began with", f"model {parent['id']} ({known})"))
    if added := record.get("added"):
        rows.append(("trained domain", f"{_plain(added)}; all else is as it was in that model"))
    if best := record.get("best"):
        rows.append(
            (
                "`best.safetensors`",
                f"as of {best['step']:,} updates, mean figure {best['figure']:.3f}",
            )
        )
    return _table(("", ""), rows)


def _figures(record: Mapping[str, Any]) -> str:
    figures = {
        name.removeprefix("validation/"): value
        for name, value in record.get("figures", {}).items()
        if name.startswith("validation/")
    }
    baselines = record.get("baselines", {})
    names = list(dict.fromkeys(key for own in figures for key in baselines.get(own, {})))
    rows = [
        (
            _plain(domain),
            _number(value),
            *(_number(baselines.get(domain, {}).get(key)) for key in names),
            f"{record.get('updates', {}).get(domain, 0):,}",
        )
        for domain, value in figures.items()
    ]
    if not rows:
        return "None yet: there was no validation, or no recording was held out."
    heading = ("domain", "this model", *map(_plain, names), "updates of its decoder")
    return _table(heading, rows)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _data(record: Mapping[str, Any]) -> str:
    recordings = record.get("recordings", {})
    rows = [
        (
            _plain(domain),
            *(
                f"{minutes.get(split, 0):.1f} min ({recordings.get(domain, {}).get(split, 0)})"
                for split in SPLITS
            ),
        )
        for domain, minutes in record.get("minutes", {}).items()
    ]
    heading = ("domain", *(f"{split} (recordings)" for split in SPLITS))
    return _table(heading, rows)


def _table(heading: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown."""
    heading = tuple(heading)
    lines = [heading, ("---",) * len(heading), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _plain(text: str) -> str:
    """Return text that Markdown shows as it is: a domain may be named anything."""
    return _SPECIAL.sub(r"\\\1", text)
