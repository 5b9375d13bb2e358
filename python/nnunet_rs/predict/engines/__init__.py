"""What computes the scores of windows: PyTorch on every device, OpenVINO on processors; each behind one protocol."""
