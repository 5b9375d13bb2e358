//! The figures, as a table on the terminal and in docs/benchmarks.md.

use std::cell::RefCell;
use std::fmt::Write;
use std::fs;
use std::time::Duration;

use crate::python::root;

const PAGE: &str = "docs/benchmarks.md";
const BEGIN: &str = "<!-- bench:begin -->";
const END: &str = "<!-- bench:end -->";

/// What was measured, group by group.
pub struct Ledger {
    threads: usize,
    versions: Option<String>,
    rows: RefCell<Vec<Row>>,
}

struct Row {
    name: &'static str,
    alone: Times,
    together: Times,
    references: Vec<(&'static str, Times)>,
}

/// Seconds an iteration, one entry a sample.
#[derive(Default)]
struct Times(Vec<f64>);

impl Times {
    fn median(&self) -> Option<f64> {
        let mut times = self.0.clone();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied()
    }
}

impl Ledger {
    /// An empty ledger; `versions` are those of the references.
    pub fn new(versions: Option<String>) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads, versions, rows: RefCell::default() }
    }

    /// All the threads that there are.
    pub const fn threads(&self) -> usize {
        self.threads
    }

    /// Begins a group.
    pub fn open(&self, name: &'static str) {
        let (alone, together, references) = Default::default();
        self.rows.borrow_mut().push(Row { name, alone, together, references });
    }

    /// Notes a sample of the open group's kernel, and returns it.
    pub fn note_kernel(&self, threads: usize, time: Duration, iterations: u64) -> Duration {
        if let Some(row) = self.rows.borrow_mut().last_mut() {
            let times = if threads == 1 { &mut row.alone } else { &mut row.together };
            times.0.push(time.as_secs_f64() / iterations as f64);
        }
        time
    }

    /// Notes a sample of one of the open group's references, and returns it.
    pub fn note_reference(&self, who: &'static str, time: Duration, iterations: u64) -> Duration {
        if let Some(row) = self.rows.borrow_mut().last_mut() {
            if row.references.last().is_none_or(|(last, _)| *last != who) {
                row.references.push((who, Times::default()));
            }
            if let Some((_, times)) = row.references.last_mut() {
                times.0.push(time.as_secs_f64() / iterations as f64);
            }
        }
        time
    }

    /// Prints the table, and rewrites that of the page where every group was measured.
    pub fn report(&self) {
        let rows = self.rows.borrow();
        let measured: Vec<&Row> = rows.iter().filter(|row| row.alone.median().is_some()).collect();
        if measured.is_empty() {
            return;
        }
        let table = self.table(&measured);
        println!("\n{table}");
        if self.versions.is_none() || measured.len() < rows.len() {
            return println!("{PAGE} stays as it was: not everything was measured.");
        }
        match rewrite(&table) {
            Ok(()) => println!("{PAGE} has the table now."),
            Err(reason) => println!("{PAGE} stays as it was: {reason}."),
        }
    }

    fn table(&self, rows: &[&Row]) -> String {
        let threads = self.threads;
        let mut text = format!(
            "| work | 1 thread | {threads} threads | against (1 thread) | its time | ratio, 1 thread | {threads} threads |\n\
             |---|---:|---:|---|---:|---:|---:|\n"
        );
        for row in rows {
            text.push_str(&row.lines(threads));
        }
        let versions = self.versions.as_deref().unwrap_or("no reference");
        let _ = write!(text, "\nMedians of one run of `cargo bench` on {}; {versions}.\n", machine());
        text
    }
}

impl Row {
    fn lines(&self, threads: usize) -> String {
        let alone = self.alone.median();
        let together = if threads == 1 { alone } else { self.together.median() };
        let own = format!("| {} | {} | {} ", self.name, show(alone), show(together));
        if self.references.is_empty() {
            return format!("{own}| | | | |\n");
        }
        let mut text = String::new();
        for (index, (who, times)) in self.references.iter().enumerate() {
            let reference = times.median();
            let ratio = |time: Option<f64>| match (reference, time) {
                (Some(reference), Some(time)) => format!("{:.0}×", reference / time),
                _ => String::new(),
            };
            let own = if index == 0 { own.as_str() } else { "| | | " };
            let _ = writeln!(text, "{own}| {who} | {} | {} | {} |", show(reference), ratio(alone), ratio(together));
        }
        text
    }
}

fn show(seconds: Option<f64>) -> String {
    match seconds {
        None => String::new(),
        Some(s) if s < 0.01 => format!("{:.2} ms", s * 1e3),
        Some(s) if s < 1.0 => format!("{:.1} ms", s * 1e3),
        Some(s) => format!("{s:.2} s"),
    }
}

/// The processor's own name, where the system tells it.
fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| std::env::consts::ARCH.to_string(), |(_, name)| name.trim().to_string())
}

fn rewrite(table: &str) -> Result<(), String> {
    let path = root().join(PAGE);
    let text = fs::read_to_string(&path).map_err(|error| error.to_string())?;
    let (head, rest) = text.split_once(BEGIN).ok_or_else(|| format!("it has no {BEGIN}"))?;
    let (_, tail) = rest.split_once(END).ok_or_else(|| format!("it has no {END}"))?;
    let beside = path.with_extension("md.new");
    fs::write(&beside, format!("{head}{BEGIN}\n{table}{END}{tail}")).map_err(|error| error.to_string())?;
    fs::rename(&beside, &path).map_err(|error| error.to_string())
}
