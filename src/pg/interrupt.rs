//! Cancel and terminate requests inside long pure loops.

/// Raises the pending ERROR if the user cancelled. Cheap enough for every few thousand steps.
pub fn check() {
    pgrx::check_for_interrupts!();
}
