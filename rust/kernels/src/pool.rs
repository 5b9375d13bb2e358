//! The threads that kernels run on: pools that are made once per size, of which the last few are kept.

use std::cell::OnceCell;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{KernelError, Result};
use crate::memory;

/// More threads than any machine has processors; beyond it the request is a mistake.
const MOST_THREADS: usize = 1024;

/// More than a thread takes to begin with: its stack, and what the system's libraries keep for it.
const THREAD_BYTES: usize = 4 << 20;

const PURPOSE: &str = "the work of a kernel";

/// Pools of one process that are kept: who asks for ever other numbers of threads leaves no more than these idle.
const KEPT: usize = 4;

/// Pools with their process and size, the last used last.
type Pools = Vec<(u32, usize, Arc<ThreadPool>)>;

/// A forked child inherits the list but not the threads, so it must not find them; nor end them.
static POOLS: Mutex<Pools> = Mutex::new(Vec::new());

/// Runs `work` on `threads` threads; `None` means every processor this process may use (affinity and container limits
/// count).
///
/// # Errors
/// `threads` outside 1 … 1024, or the system refuses to start them or has hardly any memory left.
pub fn with_threads<R: Send>(threads: Option<usize>, work: impl FnOnce() -> R + Send) -> Result<R> {
    let count = threads.unwrap_or_else(|| available_parallelism().map_or(1, |n| n.get().min(MOST_THREADS)));
    if !(1..=MOST_THREADS).contains(&count) {
        return Err(KernelError::value("threads", format!("be between 1 and {MOST_THREADS}"), count));
    }
    memory::check_margin(PURPOSE)?;
    if count > 1 {
        return Ok(shared_pool(count)?.install(work));
    }
    match ALONE.with(|alone| alone.get_or_init(alone_here).clone()) {
        Some(pool) => Ok(pool.install(work)),
        None => Ok(shared_pool(1)?.install(work)),
    }
}

thread_local! {
    /// The pool of one thread that a calling thread is by itself: work for one thread is done where it is asked for. To
    /// hand it to another thread costs as much as a small patch, and one such thread for all callers would make those
    /// that ask for one thread each, as the threads of a loader, wait for one another. Rayon never gives back what such a
    /// pool takes, some kilobytes a calling thread.
    static ALONE: OnceCell<Option<Arc<ThreadPool>>> = const { OnceCell::new() };
}

/// A pool whose only thread is the calling one; `None` where that belongs to another pool already.
fn alone_here() -> Option<Arc<ThreadPool>> {
    ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().map(Arc::new).ok()
}

fn shared_pool(count: usize) -> Result<Arc<ThreadPool>> {
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    let process = std::process::id();
    let found = pools.iter().position(|pool| (pool.0, pool.1) == (process, count));
    let (_, _, pool) = match found {
        Some(at) => pools.remove(at),
        None => (process, count, start(count)?),
    };
    pools.push((process, count, Arc::clone(&pool)));
    if pools.iter().filter(|pool| pool.0 == process).count() > KEPT {
        let oldest = pools.iter().position(|pool| pool.0 == process);
        // Its threads end when the last kernel that uses them does.
        oldest.map(|at| pools.remove(at));
    }
    Ok(pool)
}

fn start(count: usize) -> Result<Arc<ThreadPool>> {
    let builder = ThreadPoolBuilder::new().num_threads(count).thread_name(|i| format!("nnunet-{i}"));
    // A thread that finds no memory for what it needs to begin ends the process: so there must be enough for all of them,
    // and all have begun before the caller takes what is left.
    let refused = KernelError::Threads { count };
    memory::check_available(count * THREAD_BYTES, PURPOSE).map_err(|_| refused.clone())?;
    let pool = builder.build().map_err(|_| refused)?;
    pool.broadcast(|_| ());
    Ok(Arc::new(pool))
}

#[cfg(test)]
mod tests {
    use std::thread::current;

    use super::*;

    #[test]
    fn one_thread_is_the_caller() {
        assert_eq!(with_threads(Some(1), || current().id()).unwrap(), current().id());
        assert_eq!(with_threads(Some(1), rayon::current_num_threads).unwrap(), 1);
    }

    #[test]
    fn pools_have_as_many_threads_as_asked_for_wherever_they_are_asked_for() {
        let nested = || [1, 2, 3].map(|threads| with_threads(Some(threads), rayon::current_num_threads).unwrap());
        assert_eq!(nested(), [1, 2, 3]);
        assert_eq!(with_threads(Some(1), nested).unwrap(), [1, 2, 3]);
        assert_eq!(with_threads(Some(2), nested).unwrap(), [1, 2, 3]);
    }

    #[test]
    fn only_the_last_few_pools_are_kept() {
        for threads in 2..12 {
            with_threads(Some(threads), || ()).unwrap();
        }
        let pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(pools.len() <= KEPT);
    }

    #[test]
    fn refusals_state_rule_and_value() {
        let message = |threads| with_threads(Some(threads), || ()).unwrap_err().to_string();
        assert_eq!(message(0), "threads must be between 1 and 1024; got 0");
        assert!(with_threads(Some(MOST_THREADS + 1), || ()).is_err());
    }
}
