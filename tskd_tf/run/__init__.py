"""One run of the command line: settings, inputs, what each mode does, its folder."""
