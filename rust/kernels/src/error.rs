//! What a kernel refuses, in words that state the rule and the value received.

use std::fmt;

/// Why a kernel did not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelError {
    /// Lengths or numbers of axes do not fit.
    Shape(Refusal),
    /// A number or a name is none of those allowed.
    Value(Refusal),
    /// What the voxels say: there is no foreground, or it is not finite.
    Content(Refusal),
    /// The call comes too early, too late, or windows before it are missing.
    State(Refusal),
    /// Stored bytes are damaged, or of another version.
    Damaged(Refusal),
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

/// An argument that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Name of the argument, as the caller wrote it.
    pub name: &'static str,
    /// What the argument must be ("be at least 1 along every axis").
    pub rule: String,
    /// What it was.
    pub got: String,
}

/// Letters of a value that an error shows.
const SHOWN: usize = 200;

impl Refusal {
    fn new(name: &'static str, rule: impl Into<String>, got: impl fmt::Debug) -> Self {
        let mut shown = Shown { text: String::new(), left: SHOWN };
        if fmt::write(&mut shown, format_args!("{got:?}")).is_err() {
            shown.text.push('…');
        }
        Self { name, rule: rule.into(), got: shown.text }
    }
}

impl KernelError {
    /// The argument `name` must `rule` and has the lengths `got`.
    pub fn shape(name: &'static str, rule: impl Into<String>, got: impl fmt::Debug) -> Self {
        Self::Shape(Refusal::new(name, rule, got))
    }

    /// The argument `name` must `rule` and is `got`.
    pub fn value(name: &'static str, rule: impl Into<String>, got: impl fmt::Debug) -> Self {
        Self::Value(Refusal::new(name, rule, got))
    }

    /// The voxels of `name` must `rule`, of which `got` is told in words.
    pub fn content(name: &'static str, rule: impl Into<String>, got: impl Into<String>) -> Self {
        Self::Content(Refusal { name, rule: rule.into(), got: got.into() })
    }

    /// After what was done before, `name` must `rule` and is `got`.
    pub fn state(name: &'static str, rule: impl Into<String>, got: impl fmt::Debug) -> Self {
        Self::State(Refusal::new(name, rule, got))
    }

    /// The stored bytes of `name` must `rule`, of which `got` is told in words.
    pub fn damaged(name: &'static str, rule: impl Into<String>, got: impl Into<String>) -> Self {
        Self::Damaged(Refusal { name, rule: rule.into(), got: got.into() })
    }

    /// The same with advice behind the value, where there is some.
    #[must_use]
    pub fn with_hint(mut self, hint: Option<String>) -> Self {
        if let (Some(refusal), Some(hint)) = (self.refusal_mut(), hint) {
            refusal.got = format!("{} ({hint})", refusal.got);
        }
        self
    }

    /// The rule that an argument breaks, where an argument is refused.
    #[must_use]
    pub const fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Shape(refusal)
            | Self::Value(refusal)
            | Self::Content(refusal)
            | Self::State(refusal)
            | Self::Damaged(refusal) => Some(refusal),
            Self::Memory { .. } | Self::Threads { .. } => None,
        }
    }

    pub(crate) const fn refusal_mut(&mut self) -> Option<&mut Refusal> {
        match self {
            Self::Shape(refusal)
            | Self::Value(refusal)
            | Self::Content(refusal)
            | Self::State(refusal)
            | Self::Damaged(refusal) => Some(refusal),
            Self::Memory { .. } | Self::Threads { .. } => None,
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

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} must {}; got {}", self.name, self.rule, self.got)
    }
}

impl fmt::Display for KernelError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape(refusal)
            | Self::Value(refusal)
            | Self::Content(refusal)
            | Self::State(refusal)
            | Self::Damaged(refusal) => refusal.fmt(out),
            Self::Memory { purpose, bytes: Some(bytes) } => {
                let bytes = counted(*bytes, "byte");
                write!(out, "out of memory: the system does not give {bytes} for {purpose}")
            }
            Self::Memory { purpose, bytes: None } => {
                write!(out, "out of memory: {purpose} would take more bytes than an address can count")
            }
            Self::Threads { count } => {
                let threads = counted(*count, "thread");
                write!(out, "the system does not start {threads}: there is no memory left, or a limit is reached")
            }
        }
    }
}

impl std::error::Error for KernelError {}

/// A number and what is counted, one or several: "1 channel", "2 channels", "2 classes".
pub fn counted(number: usize, thing: &str) -> String {
    let ending = match (number, thing.ends_with('s')) {
        (1, _) => "",
        (_, false) => "s",
        (_, true) => "es",
    };
    format!("{number} {thing}{ending}")
}

/// A kernel's result.
pub type Result<T> = std::result::Result<T, KernelError>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_can_be_matched_and_read() {
        let error = KernelError::shape("tile", "have 2 or 3 axes", [4]);
        assert!(matches!(&error, KernelError::Shape(Refusal { name: "tile", .. })));
        assert_eq!(error.to_string(), "tile must have 2 or 3 axes; got [4]");
        let hinted = error.with_hint(Some("add an axis".into()));
        assert_eq!(hinted.refusal().map(|refusal| refusal.got.as_str()), Some("[4] (add an axis)"));
    }

    #[test]
    fn numbers_and_their_words_agree() {
        let counted = |number| ["channel", "class"].map(|thing| counted(number, thing));
        assert_eq!(
            (counted(1), counted(2)),
            (["1 channel", "1 class"].map(Into::into), ["2 channels", "2 classes"].map(Into::into))
        );
        let texts = [1, 2].map(|count| KernelError::Threads { count }.to_string());
        assert!(texts[0].contains("start 1 thread:") && texts[1].contains("start 2 threads:"));
        let memory = KernelError::Memory { purpose: "the sums of windows", bytes: Some(8) };
        assert_eq!(memory.to_string(), "out of memory: the system does not give 8 bytes for the sums of windows");
    }

    #[test]
    fn long_values_are_shortened() {
        let text = KernelError::value("paint", "hold 1 value", vec![7; 1000]).to_string();
        assert!(text.ends_with('…') && text.chars().count() < 2 * SHOWN);
    }
}
