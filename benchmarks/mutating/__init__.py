"""What mutation testing is made of: ``places`` to change, and a ``survey`` of who would notice."""
