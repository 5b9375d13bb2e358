//! What a kernel refuses, in words that state the rule and the value received.

use std::fmt;

/// Why a kernel did not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelError {
    /// An argument breaks a rule.
    Argument {
        /// Name of the argument, as the caller wrote it.
        name: &'static str,
        /// What the argument must be ("be at least 1 along every axis").
        rule: String,
        /// What it was.
        got: String,
    },
    /// Memory for a result or an intermediate was refused.
    Memory {
        /// What the memory was for.
        purpose: &'static str,
        /// How much was asked for; `None` where the number itself overflows.
        bytes: Option<usize>,
    },
}

impl KernelError {
    /// The error of an argument `name` that must `rule` and was `got`.
    pub fn argument(name: &'static str, rule: impl Into<String>, got: impl fmt::Debug) -> Self {
        Self::Argument { name, rule: rule.into(), got: format!("{got:?}") }
    }
}

impl fmt::Display for KernelError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument { name, rule, got } => write!(out, "{name} must {rule}; got {got}"),
            Self::Memory { purpose, bytes: Some(bytes) } => {
                write!(out, "{purpose} needs {bytes} bytes, more than the system gives")
            }
            Self::Memory { purpose, bytes: None } => {
                write!(out, "{purpose} needs more bytes than an address can count")
            }
        }
    }
}

impl std::error::Error for KernelError {}

/// A kernel's result.
pub type Result<T> = std::result::Result<T, KernelError>;
