"""Foreign libraries, each in a package of its own: the only place of the project that patches code of others."""
