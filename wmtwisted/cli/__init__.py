"""The command `wm`."""
