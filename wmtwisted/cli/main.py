"""`wm`: the group of all commands, and the one place that turns errors into lines and exit codes.

Exit codes: 0 done; 1 refused or failed; 2 the command line, the configuration or an input file is
wrong; 70 a mistake of ours; 130 Ctrl-C, 143 SIGTERM.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

import click

from wmtwisted.cli.context import choose_config, fail
from wmtwisted.errors import ConfigError, InputError, SpecError, WMError
from wmtwisted.structure import nearest

#: Each command: where it is, and its line in `wm --help`, so that help imports none of them.
COMMANDS = {
    "demo": ("wmtwisted.cli.demo:demo", "Run the dimuon workload from nothing to its plot."),
    "init": ("wmtwisted.cli.init:init", "Lay out a new instance in a folder."),
    "up": ("wmtwisted.cli.up:up", "Run the broker and the components until Ctrl-C."),
    "workflow": ("wmtwisted.cli.workflow:workflow", "Submit and list workflows."),
    "job": ("wmtwisted.cli.job:job", "List jobs, show one's history and its log."),
    "queue": ("wmtwisted.cli.queue:queue", "See what waits for each component."),
    "message": ("wmtwisted.cli.message:message", "Publish a message, watch them go by."),
    "replay": (
        "wmtwisted.cli.replay:replay",
        "Queue stored messages once more for a component, in their order.",
    ),
    "verify": (
        "wmtwisted.cli.verify:verify",
        "Check every message and every delivery of the bus' store.",
    ),
    "config": ("wmtwisted.cli.config:config", "Check the configuration and show it."),
}

#: What is wrong outside of us and is mended by editing something.
_BAD_INPUT = (ConfigError, SpecError, InputError)


class Commands(click.Group):
    """A group that imports a command when it is asked for: Twisted and SQLAlchemy take long."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command itself; None when there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments begin with; for a slip, an error with the nearest."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"there is no command {args[0]!r}{nearest(args[0], list(COMMANDS))}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `wm --help`."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with `wm demo`, or with `wm init` in an empty folder and `wm up`.",
)
@click.option(
    "--config",
    "-c",
    envvar="WM_CONFIG",
    show_envvar=True,
    metavar="FILE",
    expose_value=False,
    callback=choose_config,
    help="The instance's configuration.  [default: wm.toml]",
)
@click.option("--debug", is_flag=True, envvar="WM_DEBUG", help="Show tracebacks.")
@click.version_option(package_name="wmtwisted", message="wmtwisted %(version)s")
def wm(debug: bool) -> None:
    """A durable message bus, and the job-life-cycle agents on it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `wm` and exit; every way out of it passes here."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given or bool(os.environ.get("WM_DEBUG"))
    try:
        code = wm.main(given, prog_name="wm", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has seen enough, as in `wm job list | head`. The interpreter
        # would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except (click.Abort, KeyboardInterrupt) as error:
        code = getattr(error, "code", 130)
    except click.ClickException as error:
        code = _usage(error)
    except WMError as error:
        if debug:
            traceback.print_exc()
        fail(str(error), error.hint)
        code = 2 if isinstance(error, _BAD_INPUT) else 1
    except Exception as error:  # the one broad catch of the command line
        if debug:
            traceback.print_exc()
        text = " ".join(f"{type(error).__name__}: {error}".split())
        fail(f"unexpected {text}", "run it again as `wm --debug ...` and report what it shows")
        code = 70
    raise SystemExit(code or 0)


def _usage(error: click.ClickException) -> int:
    context = getattr(error, "ctx", None)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message())
        return 2
    hint = f"`{context.command_path} --help` tells more" if context else ""
    message = error.format_message().rstrip(".")
    fail(message[:1].lower() + message[1:], hint)
    return 2


if __name__ == "__main__":
    main()
