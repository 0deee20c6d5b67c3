"""The page of a listening test, which a listener opens, answers and saves as a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from umtcli.report.media import audio_uri
from umtcli.report.page import json_block, make_page

if TYPE_CHECKING:
    from core.evaluation.listening import Test

_BODY = """\
<h1>Listening test</h1>
<section id="welcome">
<p>You will hear short clips of music and answer questions about them. Use headphones if you can.
There are <b id="count"></b> questions, with no right speed and no way back. At the end the page
saves your answers as a file; please send it to whoever gave you this page.</p>
<form id="start">
<p><label>Your name, or any word <input id="listener" required maxlength="40" autocomplete="off">
</label> <button class="main">Start</button></p>
</form>
</section>
<section id="trial" hidden>
<p class="quiet" id="progress" aria-live="polite"></p>
<form id="questions"></form>
</section>
<section id="end" hidden>
<h2>Thank you</h2>
<p>Your answers have been saved as <b id="file"></b>, among your downloads.
<button id="save">Save again</button></p>
</section>
"""


def listening_page(test: Test, sample_rate: int) -> str:
    """Return the page; the clips are in it without loss, and so is nothing of the key."""
    clips = {
        name: audio_uri(clip, sample_rate, "FLAC") for name, clip in sorted(test.clips.items())
    }
    data = json_block("test-data", {**test.shown, "clips": clips})
    return make_page("Listening test", _BODY, script="listening.js", data=data)
