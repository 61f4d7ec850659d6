"""How commands put themselves into the command line's help. Only argparse is needed for that."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

WIDTH, HELP_COLUMN = 100, 30


def new_command(
    commands: Commands, name: str, summary: str, description: str = "", epilog: str = ""
) -> argparse.ArgumentParser:
    """A command called `name`; `summary` is its line in the list of commands."""
    return commands.add_parser(
        name,
        help=summary,
        description=description or summary[0].upper() + summary[1:] + ".",
        epilog=epilog,
        formatter_class=Form,
        allow_abbrev=False,
    )


class Form(argparse.RawDescriptionHelpFormatter):
    """Help as wide as this project's lines."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=WIDTH, max_help_position=HELP_COLUMN)
