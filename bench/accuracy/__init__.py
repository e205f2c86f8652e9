"""How well people are told apart, photo by photo and among thousands of people."""
