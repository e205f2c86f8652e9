"""What this process may use: cores, memory, file descriptors."""
