"""A model on paired music is measured as its files are: `umt eval` and `--paired` agree."""

from __future__ import annotations

import soundfile

from core.audio.reader import read_audio
from core.evaluation import EVALUATION_RATE
from core.evaluation.analysis import Analysis
from core.evaluation.classifier_cache import shipped_classifier
from core.evaluation.paired import evaluate_paired, find_pieces
from core.evaluation.song import evaluate_song
from core.translator import Translator
from tests.paired_music import DOMAINS, write_paired_music


def test_a_model_of_any_rate_has_the_figures_of_its_files(tmp_path, tiny_spectral):
    (piece,) = find_pieces(write_paired_music(tmp_path, n_pieces=1), tuple(DOMAINS))
    model = Translator.create(tiny_spectral, DOMAINS)
    pair = next(evaluate_paired(model, [piece], shipped_classifier()))
    output = tmp_path / "output.wav"
    soundfile.write(output, pair.output, model.sample_rate, subtype="FLOAT")

    def analysis(path):
        return Analysis(read_audio(path, EVALUATION_RATE), EVALUATION_RATE, shipped_classifier())

    rendered = [piece.files[name] for name in (piece.rendering, *piece.others)]
    of_file = evaluate_song(
        analysis(output),
        source=analysis(rendered[0][pair.source]),
        target=pair.target,
        references=[analysis(files[pair.target]) for files in rendered],
    )
    for name, card in of_file.card.items():
        for row in {"translation", "copy", "true"} & set(card):
            if name != "source_probability":  # a file's source is its most probable domain
                assert pair.rows[row][name] == card[row].value, (row, name)
