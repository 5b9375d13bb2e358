//! The module `nnunet_rs._kernels`. A binding borrows, detaches from the interpreter, calls, maps the error.

#![allow(clippy::doc_lazy_continuation)] // the texts of `docstring!` are Python's, not Markdown

use pyo3::prelude::*;

/// The stub's docstring of a function, a class or a method.
macro_rules! docstring {
    ($name:literal) => {
        include_str!(concat!(env!("OUT_DIR"), "/", $name))
    };
}

mod arrays;
mod blend;
mod convert;
mod dtypes;
mod foreground;
mod intensity;
mod mirror;
mod resample;
mod warp;
mod window_accumulator;

/// The CPU kernels of nnunet_rs.
#[pymodule]
fn _kernels(module: &Bound<'_, PyModule>) -> PyResult<()> {
    resample::register(module)?;
    blend::register(module)?;
    window_accumulator::register(module)?;
    foreground::register(module)?;
    warp::register(module)?;
    intensity::register(module)?;
    mirror::register(module)
}
