//! What a kernel refuses, in words that state the rule and the value received.

use std::fmt;

/// Why a kernel did not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelError {
    /// An argument breaks a rule.
    Argument {
        /// Name of the argument, as the caller wrote it.
        name: &'static str,
        /// What kind of rule.
        kind: Kind,
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
    /// The system does not start threads: it has no memory for them, or a limit of processes is reached.
    Threads {
        /// How many were asked for.
        count: usize,
    },
}

/// What kind of rule an argument breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One about numbers, names, shapes: another value would do.
    Value,
    /// One about the voxels: there is no foreground, or it is not finite.
    Content,
    /// One about what was done before: the call comes too early, too late, or a window is missing.
    State,
    /// One about stored bytes: they are damaged, or of another version.
    Damaged,
}

/// Letters of a value that an error shows.
const SHOWN: usize = 200;

impl KernelError {
    /// The error of an argument `name` that must `rule` and was `got`.
    pub fn argument(name: &'static str, rule: impl Into<String>, got: impl fmt::Debug) -> Self {
        let mut shown = Shown { text: String::new(), left: SHOWN };
        if fmt::write(&mut shown, format_args!("{got:?}")).is_err() {
            shown.text.push('…');
        }
        Self::Argument { name, kind: Kind::Value, rule: rule.into(), got: shown.text }
    }

    /// The same, of another kind of rule.
    #[must_use]
    pub fn of(self, kind: Kind) -> Self {
        match self {
            Self::Argument { name, rule, got, .. } => Self::Argument { name, kind, rule, got },
            error => error,
        }
    }

    /// The same with advice behind the value, where there is some.
    #[must_use]
    pub fn with_hint(self, hint: Option<String>) -> Self {
        match (self, hint) {
            (Self::Argument { name, kind, rule, got }, Some(hint)) => {
                Self::Argument { name, kind, rule, got: format!("{got} ({hint})") }
            }
            (error, _) => error,
        }
    }
}

/// The beginning of a text: nobody reads the whole of a list of thousands.
struct Shown {
    text: String,
    left: usize,
}

impl fmt::Write for Shown {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let end = more.char_indices().nth(self.left).map_or(more.len(), |(end, _)| end);
        self.text.push_str(&more[..end]);
        self.left -= more[..end].chars().count();
        if end < more.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

impl fmt::Display for KernelError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument { name, rule, got, .. } => write!(out, "{name} must {rule}; got {got}"),
            Self::Memory { purpose, bytes: Some(bytes) } => {
                write!(out, "out of memory: the system does not give {bytes} bytes for {purpose}")
            }
            Self::Memory { purpose, bytes: None } => {
                write!(out, "out of memory: {purpose} would take more bytes than an address can count")
            }
            Self::Threads { count } => {
                write!(out, "the system does not start {count} threads (no memory for them, or a limit is reached)")
            }
        }
    }
}

impl std::error::Error for KernelError {}

/// A kernel's result.
pub type Result<T> = std::result::Result<T, KernelError>;
