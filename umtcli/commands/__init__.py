"""One module a command; its `run` is the command's function, its docstring the help text."""
