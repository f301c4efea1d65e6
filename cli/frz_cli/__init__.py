"""The command line of frz: one thin file per group of commands, each a call into the library and a print."""
