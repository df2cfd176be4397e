"""The commands of `fastbptt`, one file each: `register` adds its arguments to the parser, and says which function runs it."""
