//! The interpreter that runs the references, for the length of the benchmark.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// A process of `benches/kernels/reference.py`, or the reason why there is none.
pub struct Python(Option<Process>);

struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    versions: String,
}

impl Python {
    /// Starts the interpreter; where that fails, says why and goes on without.
    pub fn start() -> Self {
        let python = interpreter();
        match Process::start(&python) {
            Ok(process) => Self(Some(process)),
            Err(reason) => {
                println!("No comparison: {} {reason}.\n", python.display());
                Self(None)
            }
        }
    }

    /// Versions of Python and its libraries, where there are any.
    pub fn versions(&self) -> Option<String> {
        self.0.as_ref().map(|process| process.versions.clone())
    }

    /// Has `what` made ready to run.
    pub fn prepare(&mut self, what: &str) -> Option<Reference<'_>> {
        let process = self.0.as_mut()?;
        let answer = process.ask(what);
        if answer == "ready" {
            return Some(Reference(process));
        }
        println!("No comparison with {what}: {answer}.");
        None
    }
}

/// Prepared work.
pub struct Reference<'a>(&'a mut Process);

impl Reference<'_> {
    /// Runs it once; the time it took, measured within Python.
    pub fn run(&mut self) -> Duration {
        Duration::from_secs_f64(self.0.ask("run").parse().expect("a run answers with seconds"))
    }
}

impl Process {
    fn start(python: &PathBuf) -> Result<Self, String> {
        let script = root().join("benches/kernels/reference.py");
        let mut child = Command::new(python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("does not start ({error})"))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (input, output) = input.zip(output).ok_or("has no input and output")?;
        let mut process = Self { child, input, output: BufReader::new(output), versions: String::new() };
        process.versions = process.ask("versions");
        if process.versions.starts_with("Python") { Ok(process) } else { Err(process.versions.clone()) }
    }

    fn ask(&mut self, question: &str) -> String {
        let mut answer = String::new();
        if writeln!(self.input, "{question}").is_err() || self.output.read_line(&mut answer).is_err() {
            return "gave up".into();
        }
        answer.trim().into()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It ends with its input; a kill spares the wait.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The checkout.
pub fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn interpreter() -> PathBuf {
    let named = std::env::var_os("NNUNET_RS_PYTHON").map(PathBuf::from);
    let built = root().join(".venv/bin/python");
    named.or_else(|| built.exists().then_some(built)).unwrap_or_else(|| "python3".into())
}
