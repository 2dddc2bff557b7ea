//! How many files a host may have open, connections among them.

#[cfg(unix)]
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files of a task: its local state, and a connection to the table, which all ask at once where they start.
#[cfg(unix)]
const FILES_PER_TASK: u64 = 2;
/// Files besides: of the process itself, of shards, and of those who ask the host.
#[cfg(unix)]
const FILES_BESIDE: u64 = 256;

/// As many files as macOS lets a process have open, where its hard limit is none: `OPEN_MAX` of its `sys/syslimits.h`.
#[cfg(unix)]
const FILES_WITHOUT_LIMIT: u64 = 10_240;

/// Lets this process have as many files open as the system allows it, and warns where so many tasks may need more.
#[cfg(unix)]
pub fn allow(tasks: u32) {
    let given = getrlimit(Resource::Nofile);
    let raised = [given.maximum, Some(FILES_WITHOUT_LIMIT)].into_iter().find(|current| {
        // Where the system refuses, what was given is what there is.
        given.current.is_some_and(|given| current.is_none_or(|current| current > given))
            && setrlimit(Resource::Nofile, Rlimit { current: *current, ..given }).is_ok()
    });
    let allowed = raised.unwrap_or(given.current);
    let needed = u64::from(tasks) * FILES_PER_TASK + FILES_BESIDE;
    if let Some(allowed) = allowed.filter(|allowed| *allowed < needed) {
        tracing::warn!(
            "this process may have {allowed} files open, and {tasks} tasks may need {needed}: tasks stop where there are no more; \
             raise the hard limit (`ulimit -Hn`, or LimitNOFILE= of a systemd unit)"
        );
    }
}

/// Such a limit is Unix' own.
#[cfg(not(unix))]
pub fn allow(_tasks: u32) {}
