//! The threads that kernels run on: pools that are made once per size and kept.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread::available_parallelism;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{KernelError, Result};

/// More threads than any machine has processors; beyond it the request is a mistake.
const MOST_THREADS: usize = 1024;

/// Pools by (process, size): a forked child inherits the table but not the threads, so it must not find them.
static POOLS: LazyLock<Mutex<HashMap<(u32, usize), Arc<ThreadPool>>>> = LazyLock::new(Mutex::default);

/// Runs `work` on `threads` threads; `None` means every processor this process may use (affinity and container limits
/// count).
///
/// # Errors
/// `threads` outside 1 … 1024, or the system refuses to start them.
pub fn with_threads<R: Send>(threads: Option<usize>, work: impl FnOnce() -> R + Send) -> Result<R> {
    let count = threads.unwrap_or_else(|| available_parallelism().map_or(1, |n| n.get().min(MOST_THREADS)));
    if !(1..=MOST_THREADS).contains(&count) {
        return Err(KernelError::argument("threads", format!("be between 1 and {MOST_THREADS}"), count));
    }
    Ok(pool(count)?.install(work))
}

fn pool(count: usize) -> Result<Arc<ThreadPool>> {
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (std::process::id(), count);
    if let Some(pool) = pools.get(&key) {
        return Ok(Arc::clone(pool));
    }
    let pool = ThreadPoolBuilder::new()
        .num_threads(count)
        .thread_name(|i| format!("nnunet-{i}"))
        .build()
        .map_err(|_| KernelError::argument("threads", "be as many as the system can start", count))?;
    let pool = Arc::new(pool);
    pools.insert(key, Arc::clone(&pool));
    Ok(pool)
}
