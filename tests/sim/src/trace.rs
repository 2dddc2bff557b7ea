//! The trace of a world: a line for everything that happens, kept only where somebody will look at it.

use std::cell::RefCell;

thread_local! {
    static LINES: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps the lines of this thread from now on.
pub fn begin() {
    LINES.set(Some(String::new()));
}

/// The lines kept since [`begin`], and no more are kept.
pub fn end() -> String {
    LINES.take().unwrap_or_default()
}

/// Adds a line.
pub fn line(since_ms: u64, text: std::fmt::Arguments<'_>) {
    use std::fmt::Write as _;
    LINES.with_borrow_mut(|lines| {
        if let Some(lines) = lines {
            writeln!(lines, "{since_ms:>9} {text}").expect("a string takes every line");
        }
    });
}

/// A line of the trace, made only where it is kept.
macro_rules! trace {
    ($world:expr, $($text:tt)*) => {
        if $world.traced {
            $crate::trace::line($world.now - $crate::world::EPOCH_MS, format_args!($($text)*));
        }
    };
}
pub(crate) use trace;
