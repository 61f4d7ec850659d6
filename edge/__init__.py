"""The edge: holds client connections so that application backends do not have to."""
