"""How each network is fitted: a file each, with its command, its paper and its numbers."""
