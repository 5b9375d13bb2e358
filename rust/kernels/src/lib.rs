//! The CPU kernels of nnunet_rs.
