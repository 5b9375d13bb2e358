"""nnU-Net as a Rust-accelerated Python library: medical image segmentation that configures itself."""
