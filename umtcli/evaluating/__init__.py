"""What `umt eval` does with what was measured: reads the inputs, shows tables, writes pages."""
