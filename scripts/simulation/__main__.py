"""The commands of `scripts/simulate`; each is in the module of its family."""

from __future__ import annotations

import click

from scripts.simulation.chaos import campaign, chaos
from scripts.simulation.disasters import cold, kill, seedless, split
from scripts.simulation.life import live
from scripts.simulation.lookups import lookups
from scripts.simulation.records import topic, values
from scripts.simulation.soak import soak
from scripts.simulation.steady import steady
from scripts.simulation.upkeep import upkeep
from scripts.simulation.waits import waits
from scripts.simulation.watching import watch


class Simulations(click.Group):
    """A group in which a first argument that is a number is the seed of `chaos`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the name of the command in front of such a number."""
        if args and args[0].isdecimal():
            args = ["chaos", *args]
        return super().parse_args(ctx, args)

    def format_usage(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """Both ways to begin."""
        formatter.write_usage("scripts/simulate", "SEED [OPTIONS]        (the same as chaos SEED)")
        formatter.write_usage("scripts/simulate", "COMMAND [SEED] [OPTIONS]", prefix="       ")


@click.group(cls=Simulations, context_settings={"show_default": True})
def main() -> None:
    """Simulate real nodes. The same SEED and options give the same digest, on any machine."""


for command in (
    chaos,
    campaign,
    lookups,
    live,
    values,
    topic,
    steady,
    upkeep,
    kill,
    cold,
    split,
    seedless,
    soak,
    watch,
    waits,
):
    main.add_command(command)

if __name__ == "__main__":
    main(prog_name="scripts/simulate")
