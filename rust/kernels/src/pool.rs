//! The threads that kernels run on: pools that are made once per size and kept.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread::available_parallelism;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{KernelError, Result};

/// More threads than any machine has processors; beyond it the request is a mistake.
const MOST_THREADS: usize = 1024;

type Pools = HashMap<(u32, usize), Arc<ThreadPool>>;

/// Pools by (process, size): a forked child inherits the table but not the threads, so it must not find them.
static POOLS: LazyLock<Mutex<Pools>> = LazyLock::new(Mutex::default);

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
    let pool = if count == 1 { own_pool()? } else { shared_pool(count)? };
    Ok(pool.install(work))
}

thread_local! {
    /// The one-thread pool of each calling thread. A shared one would make callers that ask for one thread each, such
    /// as the threads of a loader, wait for one another.
    static OWN: RefCell<Option<(u32, Arc<ThreadPool>)>> = const { RefCell::new(None) };
}

fn own_pool() -> Result<Arc<ThreadPool>> {
    let process = std::process::id();
    if let Some(pool) =
        OWN.with_borrow(|own| own.as_ref().filter(|(owner, _)| *owner == process).map(|own| own.1.clone()))
    {
        return Ok(pool);
    }
    let pool = start(1)?;
    // A pool inherited through a fork has no threads: it is forgotten, because ending them would wait for ever.
    let inherited = OWN.replace(Some((process, Arc::clone(&pool))));
    std::mem::forget(inherited);
    Ok(pool)
}

fn shared_pool(count: usize) -> Result<Arc<ThreadPool>> {
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (std::process::id(), count);
    if let Some(pool) = pools.get(&key) {
        return Ok(Arc::clone(pool));
    }
    let pool = start(count)?;
    pools.insert(key, Arc::clone(&pool));
    Ok(pool)
}

fn start(count: usize) -> Result<Arc<ThreadPool>> {
    let builder = ThreadPoolBuilder::new().num_threads(count).thread_name(|i| format!("nnunet-{i}"));
    let refused = |_| KernelError::argument("threads", "be as many as the system can start", count);
    builder.build().map(Arc::new).map_err(refused)
}
