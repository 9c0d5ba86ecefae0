"""python -m examples.file_index."""

from examples.file_index.cli import main

main(prog_name="file-index")
