"""python -m examples.service_discovery."""

from examples.service_discovery.cli import main

main(prog_name="service-discovery")
