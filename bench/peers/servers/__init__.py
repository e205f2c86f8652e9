"""One small server program a peer; they run where only the peers' requirements are installed."""
