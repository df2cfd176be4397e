"""The commands of `fastbptt`, one file each: `register` adds a command and its arguments to the parser, `run` executes it."""
