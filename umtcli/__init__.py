"""The `umt` command line: understands what is asked, calls `core`, says how it went."""
