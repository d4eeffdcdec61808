"""Made objects written in the layouts that the readers of real datasets expect."""
