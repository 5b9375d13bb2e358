//! Every kernel at several sizes, on one thread and on all, beside what SciPy, scikit-image and NumPy need for the same
//! work. Prints the ratios and rewrites the table in docs/benchmarks.md when everything has been measured.
//!
//! `cargo bench` at the root; `cargo bench -- labels` for a part. `NNUNET_RS_PYTHON` names the interpreter of the
//! comparison; otherwise `.venv/bin/python` or `python3`.

mod cases;
mod python;
mod table;

use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode};
use nnunet_kernels::with_threads;

use cases::Case;
use python::Python;
use table::Ledger;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut python = Python::start();
    let mut ledger = Ledger::new(python.versions());
    for case in cases::all() {
        measure(&mut criterion, case, &mut python, &mut ledger);
    }
    criterion.final_summary();
    ledger.report();
}

/// One group: the kernel on one thread and on all, then each reference on one.
fn measure(criterion: &mut Criterion, make: fn() -> Case, python: &mut Python, ledger: &mut Ledger) {
    let case = make();
    let mut group = criterion.benchmark_group(case.name);
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    ledger.open(case.name);
    let Case { mut work, references, .. } = case;
    for threads in [1, ledger.threads()] {
        group.bench_function(format!("nnunet_rs, {threads} threads"), |bencher| {
            bencher.iter_custom(|iterations| {
                let start = Instant::now();
                with_threads(Some(threads), || (0..iterations).for_each(|_| work())).expect("the threads start");
                ledger.note_kernel(threads, start.elapsed(), iterations)
            });
        });
    }
    drop(work);
    // References take seconds: no more runs than the samples need.
    group.warm_up_time(Duration::from_nanos(1)).measurement_time(Duration::from_millis(1));
    for (who, what) in references {
        let Some(mut reference) = python.prepare(what) else { continue };
        group.bench_function(*who, |bencher| {
            bencher.iter_custom(|iterations| {
                let seconds = (0..iterations).map(|_| reference.run()).sum();
                ledger.note_reference(who, seconds, iterations)
            });
        });
    }
}
