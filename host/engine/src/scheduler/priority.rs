//! How much of a core threads of the slow lane get while others want it. What was lowered is never raised again, for which
//! a process needs a privilege; such a thread serves the slow lane until it ends.

/// A thread, as the system names it.
pub type SystemThread = u32;

/// A thread of the slow lane gets about a tenth of what another gets.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// The system's name of the calling thread, if it tells.
#[cfg(target_os = "linux")]
pub fn this_thread() -> Option<SystemThread> {
    // The link is "PROCESS/task/THREAD".
    let link = std::fs::read_link("/proc/thread-self").ok()?;
    link.file_name()?.to_str()?.parse().ok()
}

/// How long the calling thread has been on a core, to the nanosecond, if the system tells.
#[cfg(target_os = "linux")]
pub fn time_on_core() -> Option<std::time::Duration> {
    use rustix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::ThreadCPUTime).try_into().ok()
}

/// How long a thread has been on a core, in steps of 10 ms, if the system tells.
#[cfg(target_os = "linux")]
pub fn core_time(thread: SystemThread) -> Option<std::time::Duration> {
    /// How the system counts, whatever the kernel does.
    const TICK: std::time::Duration = std::time::Duration::from_millis(10);
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).ok()?;
    // The name, in brackets, may hold anything; user and system time are the 12th and 13th of what follows it.
    let (_, fields) = stat.rsplit_once(") ")?;
    let times = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u32>().ok());
    let ticks = times.sum::<Option<u32>>()?;
    Some(TICK * ticks)
}

/// Gives a thread, or the calling one, less of the cores. Where that is refused, it goes on as before.
#[cfg(target_os = "linux")]
pub fn lower(thread: Option<SystemThread>) {
    let known = match thread {
        Some(thread) => {
            let Some(known) = i32::try_from(thread).ok().and_then(rustix::process::Pid::from_raw) else { return };
            Some(known)
        }
        None => None,
    };
    // On Linux each thread has a priority of its own, and the calling one is meant where none is named.
    if let Err(error) = rustix::process::setpriority_process(known, NICE) {
        tracing::debug!("lowering the priority of a slow thread: {error}");
    }
}

/// The system's name of the calling thread, if it tells.
#[cfg(not(target_os = "linux"))]
pub fn this_thread() -> Option<SystemThread> {
    None
}

/// How long the calling thread has been on a core, if the system tells.
#[cfg(not(target_os = "linux"))]
pub fn time_on_core() -> Option<std::time::Duration> {
    None
}

/// How long a thread has been on a core, if the system tells.
#[cfg(not(target_os = "linux"))]
pub fn core_time(_: SystemThread) -> Option<std::time::Duration> {
    None
}

/// Elsewhere a priority is the whole process's.
#[cfg(not(target_os = "linux"))]
pub fn lower(_: Option<SystemThread>) {}
