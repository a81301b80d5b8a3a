"""Typer with plainer help: no Python types, and no brackets around an argument but those of its metavar."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand

from ..terminal import report_interruption


class _Command(TyperCommand):
    """A command whose help leaves out the Python types of its arguments, such as `<list[Path]>`."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # typer would print "Aborted!" or nothing, depending on its version
            raise typer.Exit(report_interruption()) from None

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and options without types, which would also widen their column."""
        write = formatter.write_dl
        formatter.write_dl = lambda rows, **more: write(
            [(_without_type(name), text) for name, text in rows], **more
        )
        super().format_options(ctx, formatter)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the parts of the usage line: `KEY` and `[FILE…]`, not `{KEY}` and `[[FILE…]]...`."""
        return [plain_usage(piece) for piece in super().collect_usage_pieces(ctx)]


class QueryCommand(_Command):
    """A command whose arguments are a query, so `-word` is a condition, not short options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        place = args.index("--") if "--" in args else len(args)
        options: list[str] = []
        conditions: list[str] = []
        with_value = {name for one in self.params if not getattr(one, "is_flag", True) for name in one.opts}
        # `-json` is more likely a mistake than a condition, and stays an error.
        known = {*ctx.help_option_names, *(name[1:] for one in self.params for name in one.opts)}
        for before, one in zip(["", *args], args[:place], strict=False):
            is_condition = re.match(r"-[^-]", one) and one not in known and before not in with_value
            (conditions if is_condition else options).append(one)
        conditions += args[place + 1 :]
        return super().parse_args(ctx, [*options, "--", *conditions] if conditions else options)


class CommandGroup(typer.Typer):
    """Commands with plain help."""

    def command(self, name: str | None = None, **options: Any) -> Callable[[Any], Any]:
        return super().command(name, **({"cls": _Command} | options))


def _without_type(name: str) -> str:
    return re.sub(r" <[\w\[\], ]+>$", "", name)


def plain_usage(piece: str) -> str:
    """Return an argument in a usage line as its metavar writes it.

    >>> plain_usage("{KEY}"), plain_usage("[[FILE…]]..."), plain_usage("[OPTIONS]")
    ('KEY', '[FILE…]', '[OPTIONS]')
    """
    piece = re.sub(r"(…\]*\}?)\.\.\.$", r"\1", piece)
    return re.sub(r"^(?:\{(.*)\}|\[(\[.*\])\])$", lambda match: match[1] or match[2], piece)
