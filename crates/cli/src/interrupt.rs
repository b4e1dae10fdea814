//! What happens on Ctrl-C: the process ends with exit code 130, after a command's own cleaning up.
//!
//! A database needs no warning: it survives a kill at any moment, and what was committed is kept.
//!
//! Invariant: once an interrupt has come, the exit code is 130, whatever the interrupted command would
//! have said.

use crate::exit::Exit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

type Cleaning = Box<dyn FnOnce() + Send>;

static CLEANING: Mutex<Option<Cleaning>> = Mutex::new(None);
static CAME: AtomicBool = AtomicBool::new(false);
static IGNORED: AtomicBool = AtomicBool::new(false);

/// Leaves interrupts to the processes that this one has started.
pub fn ignore() {
    IGNORED.store(true, Ordering::SeqCst);
}

/// Takes over Ctrl-C.
pub fn install() {
    // Without a handler Ctrl-C ends the process all the same, only without the cleaning up.
    let _ = ctrlc::set_handler(|| {
        if IGNORED.load(Ordering::SeqCst) {
            return;
        }
        if CAME.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(Exit::Interrupted.code()));
        }
        end(Exit::Interrupted);
    });
}

/// Does a command's own cleaning up and ends the process.
pub fn end(exit: Exit) -> ! {
    // What the command meets while its place is taken away is not how it ends.
    CAME.store(true, Ordering::SeqCst);
    let cleaning = CLEANING.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(cleaning) = cleaning {
        cleaning();
    }
    std::process::exit(i32::from(exit.code()));
}

/// Sets what is to be done before an interrupt ends the process.
pub fn on_interrupt(cleaning: impl FnOnce() + Send + 'static) {
    *CLEANING.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(cleaning));
}

/// Leaves the end of the process to the interrupt, if there was one.
pub fn wait_if_interrupted() {
    while CAME.load(Ordering::SeqCst) {
        std::thread::park();
    }
}
