"""The command line (cli) and the engine: requests, plans, state, lifecycle."""
