"""The same networks in int8 and half precision, and the screen."""
