"""How long torch's threads spin, chosen before torch is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from umtcli.threads import SPIN_COUNT, SPIN_VARIABLES, spin_less


@pytest.mark.parametrize("name", SPIN_VARIABLES)
def test_what_the_user_has_chosen_stays(name):
    environment = {name: "7"}
    spin_less(environment)
    assert environment == {name: "7"}


def test_the_count_is_set_before_torch_is_loaded():
    code = "import json, os, sys, umtcli.__main__\n"
    code += "print(json.dumps([dict(os.environ), 'torch' in sys.modules]))"
    others = {name: value for name, value in os.environ.items() if name not in SPIN_VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", code], env=others, capture_output=True, text=True, check=True
    )
    environment, has_torch = json.loads(done.stdout)
    assert environment["GOMP_SPINCOUNT"] == str(SPIN_COUNT)
    assert not has_torch
