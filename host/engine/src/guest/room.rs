//! Room for instances. Each task has room for one, which nobody else takes: what is compared with it or comes in its place has room
//! beside, and what is only tried has its own; whoever finds none goes on without.

/// Tasks of a host, over all its jobs.
pub const TASKS_MAX: u32 = 4_096;
/// Deployments tried at a time, of all jobs.
pub const TRIED_AT_ONCE: u32 = 2;
/// Instances beside each task's own: one that comes in its place, and one that is compared with it.
const BESIDE_PER_TASK: u32 = 2;
/// Instances of many tasks, together with those beside them, unless that leaves fewer beside them than [`BESIDE_MIN`].
const BESIDE_AND_OWN: u32 = 4_096;
/// Instances beside those of many tasks, at least.
const BESIDE_MIN: u32 = 1_024;

/// Address space of an instance: four memories of 4 GiB each.
const INSTANCE_BYTES: u64 = 16 << 30;
/// Address space of a process, on x86-64.
const PROCESS_BYTES: u64 = 128 << 40;
const _: () = assert!((TASKS_MAX + BESIDE_MIN + TRIED_AT_ONCE) as u64 * INSTANCE_BYTES < PROCESS_BYTES * 2 / 3);

/// For how many instances there is room.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    pub(super) tasks: u32,
    pub(super) beside: u32,
    pub(super) tried: u32,
}

impl Room {
    /// For so many tasks.
    ///
    /// # Panics
    /// When those are more than [`TASKS_MAX`].
    pub fn for_tasks(tasks: u32) -> Self {
        assert!(tasks <= TASKS_MAX, "there is no room for {tasks} tasks");
        let beside = (tasks * BESIDE_PER_TASK).min((BESIDE_AND_OWN - tasks).max(BESIDE_MIN));
        Self { tasks, beside, tried: TRIED_AT_ONCE }
    }

    /// All together.
    pub(super) fn instances(self) -> u32 {
        self.tasks + self.beside + self.tried
    }
}
