//! A guest's log: lines of one task, by job, task and deployment, so many a second. What comes too fast is dropped and counted, and one
//! line says how many. The newest lines of a job are kept for those who ask.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pelton_core::id::{DeploymentNumber, TaskId};

use super::bindings::stores::wasi::logging::logging::{self, Level};
use super::instance::HostState;
use super::limits::LOG_LINE_BYTES_MAX;
use crate::recent::Recent;

/// What the limit on lines counts by.
const WINDOW: Duration = Duration::from_secs(1);

/// Failed calls that a task tells of in a second.
const FAILURES_MAX: u32 = 10;

/// Bytes that the lines kept of a job may take; the oldest make room.
pub const LINES_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What a line is counted for beside its text.
const LINE_BYTES: usize = 128;

/// How much a line matters, as `wasi:logging` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LineLevel {
    /// Every step.
    Trace,
    /// For who looks for a fault.
    Debug,
    /// As it should be.
    Info,
    /// Not as it should be.
    Warn,
    /// Something failed.
    Error,
    /// Nothing goes any more.
    Critical,
}

/// How a line came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineSource {
    /// By `wasi:logging`.
    Logging,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// From the host: what it refused or left out, and calls that failed.
    Host,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestLine {
    /// When, milliseconds since 1970, by the host's clock.
    pub at_ms: u64,
    /// Of which task.
    pub task: TaskId,
    /// Of which deployment.
    pub deployment: DeploymentNumber,
    /// Whether it is of a shadow.
    pub shadow: bool,
    /// How much it matters.
    pub level: LineLevel,
    /// How it came.
    pub source: LineSource,
    /// Its text, 4 KiB at most.
    pub text: Arc<str>,
}

/// The newest lines of a job on this host.
pub struct GuestLines {
    recent: Arc<Recent<GuestLine>>,
    now_ms: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl GuestLines {
    /// None yet, by a clock in milliseconds since 1970.
    pub fn new(now_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { recent: Arc::new(Recent::new(LINES_BYTES_MAX)), now_ms: Box::new(now_ms) })
    }

    /// The lines, for readers.
    pub fn recent(&self) -> &Arc<Recent<GuestLine>> {
        &self.recent
    }
}

/// Who writes to a log.
#[derive(Clone, Debug)]
pub struct LogOrigin {
    /// Name of the job.
    pub job: Arc<str>,
    /// Which task.
    pub task: TaskId,
    /// Which deployment.
    pub deployment: DeploymentNumber,
    /// Whether as a shadow.
    pub shadow: bool,
}

impl fmt::Display for LogOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { job, task, deployment, shadow } = self;
        write!(f, "job {job} task {task} deployment {deployment}{}", if *shadow { " as a shadow" } else { "" })
    }
}

/// The log of one deployment's instances in a task, one after another: a fresh instance gets no fresh allowance.
pub struct GuestLog {
    origin: LogOrigin,
    lines_max: u32,
    lines: Arc<GuestLines>,
    window: Mutex<Window>,
    /// Calls that failed, told beside the lines of the guest's own.
    failures: Mutex<Window>,
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

fn open(window: &Mutex<Window>) -> MutexGuard<'_, Window> {
    window.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many lines were dropped in the window before, and whether one more is taken.
fn admit(window: &Mutex<Window>, lines_max: u32) -> (u64, bool) {
    let mut window = open(window);
    (window.roll(Instant::now()), window.admit(lines_max))
}

impl GuestLog {
    /// The log of a task with so many lines a second, which are kept among those of its job.
    pub fn new(origin: LogOrigin, lines_max: u32, lines: Arc<GuestLines>) -> Self {
        Self { origin, lines_max, lines, window: Mutex::default(), failures: Mutex::default() }
    }

    /// The log of the same task and deployment where it is a shadow, with an allowance of its own.
    pub fn for_shadow(&self) -> Self {
        let origin = LogOrigin { shadow: true, ..self.origin.clone() };
        Self::new(origin, self.lines_max, self.lines.clone())
    }

    /// Logs a line, or counts it as dropped.
    pub(super) fn line(&self, level: LineLevel, source: LineSource, text: &str) {
        let (dropped, taken) = admit(&self.window, self.lines_max);
        self.tell(dropped);
        if taken {
            self.keep(level, source, cut(text));
        }
    }

    /// Logs a message of `wasi:logging`: each of its lines is one, and is cut or counted as dropped by itself.
    fn message(&self, level: LineLevel, context: &str, message: &str) {
        let context = cut(context);
        let mut lines = message.lines().filter(|line| !line.is_empty());
        for line in lines.by_ref().take(self.lines_max as usize) {
            match context {
                "" => self.line(level, LineSource::Logging, line),
                context => self.line(level, LineSource::Logging, &format!("{context}: {}", cut(line))),
            }
        }
        // More than a second takes: nobody looks at them one by one.
        open(&self.window).dropped += lines.count() as u64;
    }

    /// Logs that a call failed, in words that may be the guest's, or counts it as not told.
    pub(crate) fn failed(&self, why: &str) {
        let (untold, taken) = admit(&self.failures, FAILURES_MAX);
        self.tell_failures(untold);
        if taken {
            self.keep(LineLevel::Warn, LineSource::Host, cut(why));
        }
    }

    /// Logs what the host refused a guest, which is no line of the guest's own.
    pub(super) fn refused(&self, what: &str) {
        self.keep(LineLevel::Warn, LineSource::Host, cut(what));
    }

    /// Says how many lines were dropped since it was last said.
    pub(crate) fn settle(&self) {
        let dropped = |window: &Mutex<Window>| std::mem::take(&mut open(window).dropped);
        self.tell(dropped(&self.window));
        self.tell_failures(dropped(&self.failures));
    }

    fn tell_failures(&self, untold: u64) {
        if untold > 0 {
            let text = format!("{untold} more calls failed than are told: {FAILURES_MAX} in a second");
            self.keep(LineLevel::Warn, LineSource::Host, &text);
        }
    }

    fn tell(&self, dropped: u64) {
        if dropped > 0 {
            let lines_max = self.lines_max;
            let text = format!(
                "{dropped} lines were dropped: it logs more than {lines_max} a second, `log-lines` in [jobs.NAME.limits]"
            );
            self.keep(LineLevel::Warn, LineSource::Host, &text);
        }
    }

    fn keep(&self, level: LineLevel, source: LineSource, text: &str) {
        let (origin, text) = (&self.origin, printable(text));
        match level {
            LineLevel::Trace => tracing::trace!(target: "pelton::guest", "{origin}: {text}"),
            LineLevel::Debug => tracing::debug!(target: "pelton::guest", "{origin}: {text}"),
            LineLevel::Info => tracing::info!(target: "pelton::guest", "{origin}: {text}"),
            LineLevel::Warn => tracing::warn!(target: "pelton::guest", "{origin}: {text}"),
            LineLevel::Error | LineLevel::Critical => tracing::error!(target: "pelton::guest", "{origin}: {text}"),
        }
        let LogOrigin { task, deployment, shadow, .. } = *origin;
        let (at_ms, text) = ((self.lines.now_ms)(), text.as_ref().into());
        let line = GuestLine { at_ms, task, deployment, shadow, level, source, text };
        self.lines.recent.add(LINE_BYTES + line.text.len(), line);
    }
}

impl Drop for GuestLog {
    fn drop(&mut self) {
        self.settle();
    }
}

impl fmt::Debug for GuestLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the log of {}", self.origin)
    }
}

impl From<Level> for LineLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Trace => Self::Trace,
            Level::Debug => Self::Debug,
            Level::Info => Self::Info,
            Level::Warn => Self::Warn,
            Level::Error => Self::Error,
            Level::Critical => Self::Critical,
        }
    }
}

impl logging::Host for HostState {
    fn log(&mut self, level: Level, context: String, message: String) {
        if !self.ambient.is_invoked() {
            return;
        }
        self.identity.log.message(level.into(), &context, &message);
    }
}

/// A text as one line that does nothing to whoever's terminal shows it: control characters are written out.
fn printable(text: &str) -> Cow<'_, str> {
    let harms = |letter: char| letter.is_control() && letter != '\t';
    if !text.contains(harms) {
        return Cow::Borrowed(text);
    }
    let written =
        text.chars().map(|letter| if harms(letter) { letter.escape_default().to_string() } else { letter.to_string() });
    Cow::Owned(written.collect())
}

/// The beginning of a text, as much as a line may have.
pub(super) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LOG_LINE_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_and_commands_no_terminal() {
        assert_eq!(printable("a\tb é"), "a\tb é");
        assert_eq!(printable("x\nERROR y\r\u{1b}]52;c\u{7}\u{9b}2J"), r"x\nERROR y\r\u{1b}]52;c\u{7}\u{9b}2J");
    }

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

    #[test]
    fn of_a_long_message_no_line_is_lost_untold() {
        let lines = GuestLines::new(|| 7);
        let origin = LogOrigin { job: "job".into(), task: TaskId(3), deployment: DeploymentNumber(2), shadow: false };
        let log = GuestLog::new(origin, 3, lines.clone());
        let message = ["a", "b", "c", "d"].map(|letter| letter.repeat(LOG_LINE_BYTES_MAX - 1)).join("\n");
        log.message(LineLevel::Info, "of", &message);
        drop(log);
        let told: Vec<_> = lines.recent().after(0, 1_000).items.into_iter().map(|(_, line)| line.text).collect();
        assert!(told.len() == 4 && told[2].starts_with("of: ccc"), "{told:?}");
        assert!(told[..3].iter().all(|line| line.len() == LOG_LINE_BYTES_MAX));
        assert!(told[3].starts_with("1 lines were dropped"), "{told:?}");
    }

    #[test]
    fn calls_that_fail_are_told_so_often_and_what_is_untold_when_the_log_is_over() {
        let lines = GuestLines::new(|| 7);
        let origin = LogOrigin { job: "job".into(), task: TaskId(3), deployment: DeploymentNumber(2), shadow: false };
        let log = GuestLog::new(origin, 1, lines.clone());
        (0..100).for_each(|_| log.failed("it failed\nERROR it did not"));
        drop(log);
        let told: Vec<_> = lines.recent().after(0, 1_000).items.into_iter().map(|(_, line)| line.text).collect();
        assert!(told.len() <= 2 * FAILURES_MAX as usize + 2, "{told:?}");
        assert_eq!(told[0].as_ref(), r"it failed\nERROR it did not");
        assert!(told.last().is_some_and(|text| text.contains("more calls failed")), "{told:?}");
    }
}
