# SQL that is embedded into the programs and installed.
