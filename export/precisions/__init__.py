"""The embedders in int8 and half precision, and the screen of P-Net."""
