//! Threads for pure work of core, beside the backend's own.

use std::mem::MaybeUninit;

use pgrx::pg_sys;

use super::error::Result;
use super::interrupt;

/// Pieces that wait for their consumer.
const READY: usize = 4;

/// Threads that sums over the log may use, this one included: as many as a maintenance command of Postgres.
pub fn for_maintenance() -> usize {
    // SAFETY: a plain read of a setting on the backend's only thread.
    let workers = unsafe { pg_sys::max_parallel_maintenance_workers };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores.min(1 + usize::try_from(workers).unwrap_or(0))
}

/// Runs `f`, whose threads must be joined when it returns, with all signals blocked: threads inherit that, and a handler of
/// Postgres must never run on one of them. What is signalled meanwhile is handled afterwards.
pub fn without_signals<T>(f: impl FnOnce() -> T) -> T {
    let _blocked = Blocked::new();
    f()
}

/// Like [`without_signals`], for long work that stops now and then, with all threads joined, to let Postgres have its say.
pub fn quietly<T>(f: impl FnOnce(&Quiet) -> T) -> T {
    f(&Quiet(Blocked::new()))
}

/// A stretch in which signals are blocked.
pub struct Quiet(Blocked);

impl Quiet {
    /// Runs `f` with signals as usual. No other thread may run meanwhile.
    pub fn lift<T>(&self, f: impl FnOnce() -> T) -> T {
        self.0.restore();
        let result = f();
        Blocked::set();
        result
    }

    /// Raises the pending ERROR if the user cancelled. No other thread may run meanwhile.
    pub fn check(&self) {
        self.lift(interrupt::check);
    }
}

/// Hands the results of `work` over in the order of `items`, `piece` by piece, while the next are worked on by a thread beside
/// this one, where maintenance may have one. Few items are not worth a thread. The thread ends before this returns, also when
/// `consume` fails.
pub fn ahead<T: Sync, U: Send>(
    items: &[T],
    piece: usize,
    work: impl Fn(&T) -> U + Sync,
    consume: impl FnMut(Vec<U>) -> Result<()>,
) -> Result<()> {
    let mut pieces = items.chunks(piece).map(|items| items.iter().map(&work).collect());
    if items.len() <= piece || for_maintenance() < 2 {
        return pieces.try_for_each(consume);
    }
    std::thread::scope(|scope| {
        // What is ready waits, so that memory is bounded.
        let (sender, receiver) = std::sync::mpsc::sync_channel(READY);
        // Sending fails once `consume` has failed.
        let work = move || pieces.all(|results: Vec<U>| sender.send(results).is_ok());
        without_signals(|| scope.spawn(work));
        receiver.into_iter().try_for_each(consume)
    })
}

/// Runs `produce` here, and hands the pieces that it sends over to `consume` on a thread beside this one, in order. Returns what
/// either made. The thread ends before this returns, also when `produce` fails.
pub fn beside<T: Send, U: Send, V>(
    consume: impl FnOnce(&mut dyn Iterator<Item = T>) -> U + Send,
    produce: impl FnOnce(&mut dyn FnMut(T)) -> V,
) -> (V, U) {
    std::thread::scope(|scope| {
        let (sender, receiver) = std::sync::mpsc::sync_channel(READY);
        let thread = without_signals(|| scope.spawn(move || consume(&mut receiver.into_iter())));
        let made = produce(&mut |piece| {
            // Fails once `consume` wants no more; what it says of that is returned.
            let _ = sender.send(piece);
        });
        drop(sender);
        let consumed = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (made, consumed)
    })
}

struct Blocked(libc::sigset_t);

impl Blocked {
    fn set() {
        let mut all = MaybeUninit::uninit();
        // SAFETY: the set is written before it is read; the mask is that of this thread.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), std::ptr::null_mut());
        }
    }

    fn restore(&self) {
        // SAFETY: restores the mask that `new` found.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }

    fn new() -> Self {
        let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: both sets are written before they are read; the mask is that of this thread.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            Blocked(before.assume_init())
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        self.restore();
    }
}
