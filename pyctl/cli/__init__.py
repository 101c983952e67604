"""The command line: one option table, its parser, help, output and the verbs."""
