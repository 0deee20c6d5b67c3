"""Models that other programs play live: TorchScript for nn~ (Max, Pure Data) and Neutone (DAWs)."""
