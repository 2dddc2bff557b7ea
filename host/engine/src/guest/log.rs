//! A guest's log: lines of one task, by job, task and deployment, so many a second. What comes too fast is dropped and counted, and one
//! line says how many.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::bindings::stores::wasi::logging::logging::{self, Level};
use super::instance::HostState;
use super::limits::LOG_LINE_BYTES_MAX;

/// What the limit on lines counts by.
const WINDOW: Duration = Duration::from_secs(1);

/// The log of one deployment's instances in a task, one after another: a fresh instance gets no fresh allowance.
pub struct GuestLog {
    whose: String,
    lines_max: u32,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    lines: u32,
    dropped: u64,
}

impl Window {
    /// Lets a window that is over go, and gives how many lines were dropped in it.
    fn roll(&mut self, now: Instant) -> u64 {
        match self.began {
            Some(began) if now.saturating_duration_since(began) < WINDOW => 0,
            Some(_) | None => {
                self.began = Some(now);
                self.lines = 0;
                std::mem::take(&mut self.dropped)
            }
        }
    }

    /// Whether one more line is taken.
    fn admit(&mut self, lines_max: u32) -> bool {
        let taken = self.lines < lines_max;
        if taken {
            self.lines += 1;
        } else {
            self.dropped += 1;
        }
        taken
    }
}

impl GuestLog {
    /// The log of a task named so, with so many lines a second.
    pub fn new(whose: String, lines_max: u32) -> Self {
        Self { whose, lines_max, window: Mutex::default() }
    }

    /// Logs a line, or counts it as dropped.
    pub(super) fn line(&self, level: Level, text: &str) {
        let (dropped, taken) = {
            let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
            (window.roll(Instant::now()), window.admit(self.lines_max))
        };
        self.tell(dropped);
        if !taken {
            return;
        }
        let (whose, text) = (&self.whose, cut(text));
        match level {
            Level::Trace => tracing::trace!(target: "pelton::guest", "{whose}: {text}"),
            Level::Debug => tracing::debug!(target: "pelton::guest", "{whose}: {text}"),
            Level::Info => tracing::info!(target: "pelton::guest", "{whose}: {text}"),
            Level::Warn => tracing::warn!(target: "pelton::guest", "{whose}: {text}"),
            Level::Error | Level::Critical => tracing::error!(target: "pelton::guest", "{whose}: {text}"),
        }
    }

    /// Logs what the host refused a guest, which is no line of the guest's own.
    pub(super) fn refused(&self, what: &str) {
        tracing::warn!(target: "pelton::guest", "{}: {}", self.whose, cut(what));
    }

    /// Says how many lines were dropped since it was last said.
    pub(crate) fn settle(&self) {
        let dropped = std::mem::take(&mut self.window.lock().unwrap_or_else(PoisonError::into_inner).dropped);
        self.tell(dropped);
    }

    fn tell(&self, dropped: u64) {
        if dropped > 0 {
            let (whose, lines_max) = (&self.whose, self.lines_max);
            tracing::warn!(
                target: "pelton::guest",
                "{whose}: {dropped} lines were dropped: it logs more than {lines_max} a second, `log-lines` in [jobs.NAME.limits]"
            );
        }
    }
}

impl fmt::Debug for GuestLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the log of {}", self.whose)
    }
}

impl logging::Host for HostState {
    fn log(&mut self, level: Level, context: String, message: String) {
        let message = cut(&message);
        let context = cut(&context);
        for line in message.lines().filter(|line| !line.is_empty()) {
            match context {
                "" => self.identity.log.line(level, line),
                context => self.identity.log.line(level, &format!("{context}: {line}")),
            }
        }
    }
}

/// The beginning of a text, as much as a line may have.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LOG_LINE_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_past_the_limit_are_counted_and_told_in_the_next_second() {
        let mut window = Window::default();
        let began = Instant::now();
        let taken = (0..10).filter(|_| window.roll(began) == 0 && window.admit(3)).count();
        assert_eq!((taken, window.dropped), (3, 7));
        assert_eq!(window.roll(began + WINDOW / 2), 0);
        assert!(!window.admit(3));
        assert_eq!(window.roll(began + WINDOW), 8);
        assert!(window.admit(3));
        assert_eq!(window.roll(began + WINDOW * 9), 0);
    }
}
