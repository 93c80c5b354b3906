"""Hundreds of frames: windows that overlap, brought into one world (Sec. 4.2). Sees point maps, never the network."""
