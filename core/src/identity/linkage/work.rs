//! Threads for pieces of pure work.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;

/// `piece(0)` to `piece(pieces - 1)` on so many threads, this one included, with the results in that order. All threads are
/// joined when it returns.
pub fn in_parallel<T: Send>(threads: usize, pieces: usize, piece: impl Fn(usize) -> T + Sync) -> Vec<T> {
    if threads < 2 || pieces < 2 {
        return (0..pieces).map(piece).collect();
    }
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<T>>> = (0..pieces).map(|_| Mutex::new(None)).collect();
    let work = || loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(result) = results.get(number) else { break };
        let made = piece(number);
        if let Ok(mut result) = result.lock() {
            *result = Some(made);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(pieces) {
            scope.spawn(work);
        }
        work();
    });
    results.into_iter().filter_map(|result| result.into_inner().ok().flatten()).collect()
}
