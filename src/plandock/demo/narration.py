"""How the demo speaks: steps, facts, screens and commands; plain where there is no terminal."""

from __future__ import annotations

import click

from plandock.printable import printable


class Narrator:
    """Prints the story; counts its steps."""

    def __init__(self) -> None:
        self._step = 0

    def step(self, title: str) -> None:
        """Begin a step of the story."""
        self._step += 1
        click.echo()
        click.secho(f"── {self._step}. {title}", bold=True)

    def say(self, words: str) -> None:
        """A sentence, or some."""
        click.echo(words)

    def fact(self, name: str, value: str) -> None:
        """One observed fact."""
        click.echo(f"   {name + ':':<42} {printable(value)}")

    def command(self, line: str) -> None:
        """A command line as it would be typed."""
        click.secho(f"   $ {line}", fg="cyan")

    def line(self, text: str) -> None:
        """One line of a command's output."""
        click.echo(f"     {printable(text)}")

    def output(self, text: str) -> None:
        """A command's whole output."""
        for line in text.rstrip("\n").splitlines():
            self.line(line)

    def screen(self, text: str) -> None:
        """A terminal's screen, framed, without its empty lines."""
        click.secho("   ┌" + "─" * 70, dim=True)
        for line in text.splitlines():
            if line.strip():
                click.echo(click.style("   │ ", dim=True) + printable(line))
        click.secho("   └" + "─" * 70, dim=True)

    def trouble(self, words: str, hint: str) -> None:
        """Why the story ends here, on standard error."""
        click.secho(f"plandock demo: {printable(words)}", fg="red", err=True)
        if hint:
            click.echo(f"  next: {printable(hint)}", err=True)
