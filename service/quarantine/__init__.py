"""What known senders got refused: kept for a while in a capped file of its own, and published for whoever mends it."""
