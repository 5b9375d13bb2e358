//! The module `nnunet_rs._kernels`.

use pyo3::prelude::*;

/// The CPU kernels of nnunet_rs.
#[pymodule]
fn _kernels(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
