"""gmesh: a mesh VPN daemon that takes the place of tinc, on the same directories and among the same peers."""

__version__ = "0.1.0"
