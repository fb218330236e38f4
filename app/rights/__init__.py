"""Who calls, and what for: keys, tokens, tickets, and the rights that they carry."""
