"""The `umt` program: its commands, and how every run of it ends."""

from __future__ import annotations

import os
import re
import sys
from importlib import import_module
from keyword import iskeyword
from typing import TYPE_CHECKING, Annotated

import typer

import core
from umtcli.console import Environment
from umtcli.errors import (
    ExitCode,
    Terminated,
    describe,
    exit_code,
    show_traceback,
    sigterm_raises,
)
from umtcli.processes import reports_failure

if TYPE_CHECKING:
    from collections.abc import Sequence

_OPTION_WITH_HOME = re.compile(r"(--[\w-]+=|-[a-z])(~(?:/.*)?)", re.DOTALL)
# In the order of `umt --help`. Each is `run` of the module of that name in umtcli.commands,
# with EXAMPLES below its help; torch and the like are imported inside functions there, never
# at the top, because every `umt --help` and every TAB imports them all.
COMMANDS = (
    *("translate", "encode", "decode", "blend", "prep", "train", "eval", "info"),
    *("import", "export"),
)

app = typer.Typer(
    name="umt",
    rich_markup_mode=None,  # plain help: rich would take a third of the start-up time
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for _name in COMMANDS:
    # `import` is a keyword of Python, so its module has another name.
    _module = import_module(f"umtcli.commands.{_name}{'_' * iskeyword(_name)}")
    # \b keeps the lines below it as they are.
    app.command(_name, epilog=f"\b\nExamples:\n{_module.EXAMPLES}")(_module.run)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"umt {core.__version__}")
        raise typer.Exit


@app.callback()
def umt(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Translate music between instruments and styles, and train the models that do it.

    Every stage reads and writes pipes; `umt COMMAND --help` says what it takes and gives.
    """


def main(argv: Sequence[str] | None = None, env: Environment | None = None) -> int:
    """Run the program once.

    Args:
        argv: Arguments after the program's name; this process's own by default.
        env: Streams; this process's own by default.

    Returns:
        The exit code, see `ExitCode`.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    own_streams = env is None
    env = env or Environment.from_process()
    with sigterm_raises(), env.log_shown():
        try:
            _dispatch([_expand_home(arg) for arg in args], env)
            env.stdout.flush()
            code: int = ExitCode.DONE
        except BaseException as error:
            code = _conclude(error, args, env)
    if own_streams:
        _flush_or_discard()
    return code


def _expand_home(arg: str) -> str:
    """Replace the ~ of `--out=~/data` and `-o~/x`, which shells leave as it is."""
    option, path = match.groups() if (match := _OPTION_WITH_HOME.fullmatch(arg)) else ("", arg)
    return option + os.path.expanduser(path)  # noqa: PTH111 - keeps "./" and a slash at the end


def _dispatch(args: list[str], env: Environment) -> None:
    command = typer.main.get_command(app)
    if "_UMT_COMPLETE" in os.environ:
        command.main(args, prog_name="umt")
    if not args:
        args = ["--help"]
    # Not `command.main`: it has its own ideas about closed pipes, Ctrl-C and error texts.
    with command.make_context("umt", args, obj=env) as context:
        command.invoke(context)


def _conclude(error: BaseException, args: list[str], env: Environment) -> int:
    """Report on stderr, in one of several processes, how the run ended; return its exit code."""
    code = exit_code(error)
    try:
        match error:
            case SystemExit():
                return error.code if isinstance(error.code, int) else ExitCode.FAILED
            case typer.Exit() | BrokenPipeError():
                pass
            case _ if not reports_failure():
                show_traceback(env, error)
            case KeyboardInterrupt():
                env.notice("interrupted")
            case Terminated():
                env.notice("terminated")
            case typer.TyperException():
                text = " ".join(error.format_message().split()).rstrip(".")
                env.error(f"{text}; see {_command_path(args)} --help")
            case _:
                show_traceback(env, error)
                env.error(describe(error))
    except BrokenPipeError:
        return ExitCode.CLOSED_PIPE
    return code


def _command_path(args: list[str]) -> str:
    """Return the command that the arguments name, as the user would type it."""
    return f"umt {args[0]}" if args and args[0] in COMMANDS else "umt"


def _flush_or_discard() -> None:
    """Leave nothing in the buffers that the interpreter could fail to write at its end."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
