//! Takes the docstrings out of the stub, so that `help()` shows what editors and type checkers show.

use std::{env, fs, path::PathBuf};

const STUB: &str = "../../python/nnunet_rs/_kernels.pyi";

fn main() {
    println!("cargo::rerun-if-changed={STUB}");
    let stub = fs::read_to_string(STUB).expect("the stub lies beside the Python package");
    let folder = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for (name, text) in docstrings(&stub) {
        fs::write(folder.join(name), text).expect("cargo's folder can be written");
    }
}

/// Every docstring with the name of what it documents: `function`, `Class`, `Class.method`.
fn docstrings(stub: &str) -> Vec<(String, String)> {
    let (mut found, mut class, mut owner) = (Vec::new(), String::new(), String::new());
    let mut lines = stub.lines();
    while let Some(line) = lines.next() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        if let Some(rest) = text.strip_prefix("class ") {
            class = identifier(rest);
            owner.clone_from(&class);
        } else if let Some(rest) = text.strip_prefix("def ") {
            owner = if indent == 0 { identifier(rest) } else { format!("{class}.{}", identifier(rest)) };
        } else if let Some(first) = text.strip_prefix(QUOTES) {
            let text = docstring(first, indent, &mut lines);
            if !owner.is_empty() {
                found.push((owner.clone(), text));
            }
        }
    }
    found
}

const QUOTES: &str = "\"\"\"";

/// A docstring that begins with `first`, up to its closing quotes, its own indentation removed.
fn docstring<'a>(first: &'a str, indent: usize, lines: &mut impl Iterator<Item = &'a str>) -> String {
    if let Some(whole) = first.strip_suffix(QUOTES) {
        return whole.to_owned();
    }
    let rest = lines.take_while(|line| line.trim() != QUOTES).map(|line| line.get(indent..).unwrap_or("").trim_end());
    std::iter::once(first).chain(rest).collect::<Vec<_>>().join("\n")
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|&letter| letter.is_alphanumeric() || letter == '_').collect()
}
