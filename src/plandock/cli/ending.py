"""Commands for a run's end, and for what comes after it: stop, resume, drop, gc."""

from __future__ import annotations

import click

from plandock.cli import standing
from plandock.cli.common import confirm, json_option, print_json, run_argument
from plandock.errors import Busy, PlandockError
from plandock.printable import one_line, printable
from plandock.runs.model import State
from plandock.runs.store import Store
from plandock.supervisor import collecting, dropping, queue, resuming, stopping

# The agent is asked to end, ended if it does not, and its work is harvested (seconds).
_LONGEST_STOP_S = 300.0
_NUDGE_S = 5.0


@click.command()
@run_argument
@click.option("--now", is_flag=True, help="Do not wait for the agent; a second stop does the same.")
@json_option
def stop(run_name: str, now: bool, as_json: bool) -> int:
    """End a run; what its agent has done so far arrives on the branch."""
    with Store() as store:
        found = store.find(run_name)
        if found.state.final:
            if as_json:
                print_json(found.to_json())
            click.echo(f"{found.id} has ended already ({found.state})", err=True)
            return 0
        found = stopping.ask(store, found, forced=now)
        try:
            for _ in range(int(_LONGEST_STOP_S / _NUDGE_S)):
                found = standing.follow(store, found.id, timeout_s=_NUDGE_S, until_stuck=True)
                if found.state.final or standing.is_stuck(found):
                    break
                # Its supervisor may have left or died just when it was asked.
                queue.wake(store)
        except KeyboardInterrupt:
            click.echo(f"the stop of {found.id} goes on: plandock wait {found.id}", err=True)
            return 130
    if as_json:
        print_json(found.to_json())
    elif found.state.final:
        click.echo(standing.ending(found))
    if found.state.final:
        return 0
    why = one_line(found.message) if found.state is State.WAITING else "it takes longer"
    raise Busy(
        f"{found.id} is {standing.words(found)} and ends as soon as it can: {why}",
        hint=f"plandock stop {found.id} --now forces it; plandock wait {found.id}",
    )


@click.command()
@run_argument
@click.option("--say", "words", metavar="TEXT", default="", help="What the agent is told.")
@json_option
def resume(run_name: str, words: str, as_json: bool) -> None:
    """Let a failed, stopped or waiting run go on, in its own conversation and branch."""
    with Store() as store:
        found, told = resuming.resume(store, store.find(run_name), words)
    if as_json:
        print_json(found.to_json())
    else:
        click.echo(one_line(told))


@click.command()
@run_argument
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--now", is_flag=True, help="Keep no bundle of it.")
def drop(run_name: str, yes: bool, now: bool) -> None:
    """Forget a run: its containers, volumes, folder and hidden refs.  Its branch stays.

    What it brought is kept as git bundles for 30 days, unless --now.
    """
    with Store() as store:
        found = store.find(run_name)
        if not found.state.final:
            raise Busy(f"{found.id} is {found.state}", hint=f"plandock stop {found.id}")
        lost = dropping.losses(found)
        stays = bool(found.commits) and dropping.branch_there(found)
        if lost and not yes:
            after = "" if now else f"; a copy is kept for {dropping.KEPT_DAYS} days"
            confirm(
                one_line(f"{found.id}: {'; '.join(lost)}. Drop it{after}?"),
                otherwise=f"{found.id} was not dropped",
                hint=f"plandock drop {found.id} --yes",
            )
        kept = None
        if not now:
            try:
                kept = dropping.keep(found)
            except (PlandockError, OSError) as error:
                raise PlandockError(
                    f"{found.id} was not dropped, its work cannot be kept: {error}",
                    hint=f"plandock drop {found.id} --now drops it without a copy",
                ) from error
        dropping.remove(store, found)
    click.echo(one_line(f"dropped {found.id}" + (f"; {found.branch} stays" if stays else "")))
    if kept and any(kept.glob("*.bundle")):
        click.echo(printable(f"  kept for {dropping.KEPT_DAYS} days: {kept}"))


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--keep-images", is_flag=True, help="Leave the images of boxes alone.")
@json_option
def gc(dry_run: bool, keep_images: bool, as_json: bool) -> int:
    """Remove what nobody needs any more; never what has not been harvested."""
    with Store() as store:
        gone, failed = collecting.collect(store, dry_run=dry_run, images=not keep_images)
    size = sum(spare.size_bytes for spare in gone)
    if as_json:
        removed = [spare.to_json() for spare in gone]
        print_json({"dry_run": dry_run, "removed": removed, "freed_bytes": size, "failed": failed})
        return 1 if failed else 0
    for spare in gone:
        click.echo(one_line(f"{spare.kind} {spare.name}"))
    volumes = sum(spare.kind in ("volume", "mirror") for spare in gone)
    would = "would free" if dry_run else "freed"
    more = f" and {volumes} volume(s)" if volumes else ""
    click.echo(f"{would} {size / (1 << 20):.1f} MiB{more}")
    for line in failed:
        click.echo(one_line(f"not removed: {line}"), err=True)
    return 1 if failed else 0


COMMANDS = (stop, resume, drop, gc)
